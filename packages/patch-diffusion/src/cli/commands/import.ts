/** `patch-diffusion import`: checkpoints of the official programs to ours. */

import type { Command } from 'commander';
import * as f from '../../config/fields.js';
import { addFields, readFlags } from '../flags.js';
import { formatCount, note, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion import network-snapshot-050000.pkl
  $ patch-diffusion generate --network network-snapshot-050000.safetensors --grid sheet.png
  $ patch-diffusion import training-state-050000.pt --out state.safetensors
  $ patch-diffusion train --data photos-64.zip --resume state.safetensors

Nothing in the files is executed: Python classes and source text in them are ignored, and files that ask for anything
but tensors and numbers are refused. A training state needs its network-snapshot-*.pkl in the same folder.`;

const fields = {
  out: f.path('File to write; without it, beside the source', { nullWord: 'none' }),
};

export function register(program: Command): void {
  const command = program
    .command('import')
    .description(
      'Convert a network-snapshot-*.pkl or training-state-*.pt of EDM or Patch Diffusion to .safetensors.',
    )
    .argument('<file>', 'Official checkpoint (.pkl or .pt)');
  addFields(command, fields);
  command.addHelpText('after', HELP).action(runImport);
}

async function runImport(file: string, given: Record<string, unknown>): Promise<void> {
  const { out } = readFlags(fields, given);
  const { importCheckpoint } = await import('../../interchange/import.js');
  const result = await importCheckpoint(file, { out });
  const { type, network } = result.precond;
  const what = result.kind === 'snapshot' ? 'snapshot' : 'training state';
  const trained = result.nimg > 0 ? `, ${formatCount(result.nimg / 1000)} kimg` : '';
  note(
    `${what} of ${network.type} (${type}), ${network.imgResolution} px, ${result.tensors} tensors${trained}`,
  );
  print(result.file);
}
