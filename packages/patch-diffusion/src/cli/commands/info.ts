/** `patch-diffusion info`: what a path is, for people or as JSON. */

import type { Command } from 'commander';
import { addSwitch, isOn } from '../flags.js';
import { print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion info runs
  $ patch-diffusion info runs/00000-photos-64
  $ patch-diffusion info runs/00000-photos-64/snapshots/network-snapshot-000200.safetensors
  $ patch-diffusion info photos-64.zip --json`;

export function register(program: Command): void {
  const command = program
    .command('info')
    .summary('Say what a run folder, snapshot or data set is')
    .description('Describe a run folder, a folder of runs, a .safetensors file, or a data set.')
    .argument('<path>', 'Run folder, folder of runs, .safetensors file, folder or zip of images');
  addSwitch(command, '--verify', 'Decode every image of a data set');
  addSwitch(command, '--json', 'Print JSON');
  command
    .addHelpText('after', HELP)
    .action(async (path: string, { json, verify }: { json?: unknown; verify?: unknown }) => {
      const { describePath, infoText } = await import('../info.js');
      const info = await describePath(path, { verify: isOn(verify) });
      print(isOn(json) ? JSON.stringify(info, null, 2) : infoText(info));
    });
}
