/** `patch-diffusion info`: what a path is, for people or as JSON. */

import type { Command } from 'commander';
import * as f from '../../config/fields.js';
import { addFields, readFlags } from '../flags.js';
import { print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion info runs
  $ patch-diffusion info runs/00000-photos-64
  $ patch-diffusion info runs/00000-photos-64/snapshots/network-snapshot-000200.safetensors
  $ patch-diffusion info photos-64.zip --json`;

const fields = {
  verify: f.boolean('Decode every image of a data set; compare a snapshot or state with its checksum', {
    default: false,
  }),
  json: f.boolean('Print JSON', { default: false }),
};

export function register(program: Command): void {
  const command = program
    .command('info')
    .description('Describe a run folder, a folder of runs, a snapshot or state, or a data set.')
    .argument(
      '<path>',
      'Run folder, folder of runs, .safetensors, .pkl or .pt file, folder or zip of images',
    );
  addFields(command, fields);
  command.addHelpText('after', HELP).action(async (path: string, given: Record<string, unknown>) => {
    const { json, verify } = readFlags(fields, given);
    const { describePath } = await import('../info.js');
    const { infoText } = await import('../info-text.js');
    const info = await describePath(path, { verify });
    print(json ? JSON.stringify(info, null, 2) : infoText(info));
  });
}
