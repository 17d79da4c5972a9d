/** `patch-diffusion export`: weights for other programs. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import * as f from '../../config/fields.js';
import { generateFields } from '../../config/generate-options.js';
import { addFields, readFlags } from '../flags.js';
import { fetchLine, note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion export --run runs/00000-photos-64 --format torch --out weights.pt
  $ python -c "import torch; print(torch.load('weights.pt', weights_only=True).keys())"
  $ patch-diffusion export --network network-snapshot-050000.pkl --format safetensors

Tensors have their official names (model.enc.64x64_conv.weight, …). The network's constructor arguments are in a .json
file beside the weights (torch), or in the file's metadata under "config" (safetensors).`;

const fields = f.under('Options', {
  run: generateFields.run,
  network: generateFields.network,
  format: f.choice('Format of the file', ['torch', 'safetensors']),
  out: f.path('File to write; without it, beside the snapshot', { nullWord: 'none' }),
});

export function register(program: Command): void {
  const command = program
    .command('export')
    .description(
      'Write the averaged weights of a run or snapshot as a PyTorch state dict or plain safetensors.',
    );
  addFields(command, fields);
  command.addHelpText('after', HELP).action(runExport);
}

async function runExport(given: Record<string, unknown>): Promise<void> {
  const { run, network, format, out } = readFlags(fields, given);
  if ((run === null) === (network === null)) {
    throw usageError('NO_NETWORK', 'say which network to export: --run RUN_FOLDER, or --network SNAPSHOT');
  }
  const { exportSnapshot } = await import('../../interchange/export.js');
  const { tensors, files } = await withLine((line) =>
    exportSnapshot({
      run,
      network,
      format,
      out,
      onProgress: (done, total) => line.set(fetchLine(done, total)),
      onNote: (text) => line.note(`note: ${text}`),
    }),
  );
  note(`${tensors} tensors`);
  for (const file of files) print(file);
}
