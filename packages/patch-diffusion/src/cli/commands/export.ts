/** `patch-diffusion export`: weights for other programs. */

import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { guarded } from '../../common/file-error.js';
import * as f from '../../config/fields.js';
import { generateFields } from '../../config/generate-options.js';
import { ONNX_PRECISIONS } from '../../interchange/onnx/options.js';
import { addFields, readFlags } from '../flags.js';
import { fetchLine, note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion export --run runs/00000-photos-64 --format torch --out weights.pt
  $ python -c "import torch; print(torch.load('weights.pt', weights_only=True).keys())"
  $ patch-diffusion export --network network-snapshot-050000.pkl --format safetensors
  $ patch-diffusion export --run runs/00000-photos-64 --format onnx --precision fp16 --license LICENSE.txt

onnx: the network, ready to run in ONNX runtimes of any language and in browsers. Its inputs are x, sigma, positions
and class_labels (those that it has), its output the denoised images; a sampler finds all that it needs in the
metadata. A network that was trained on latents comes with its decoder in a second file.

torch, safetensors: tensors have their official names (model.enc.64x64_conv.weight, …). The network's constructor arguments are in a .json
file beside the weights (torch), or in the file's metadata under "config" (safetensors).`;

const fields = {
  ...f.under('Options', {
    run: generateFields.run,
    network: generateFields.network,
    format: f.choice('Format of the file', ['torch', 'safetensors', 'onnx']),
    out: f.path('File to write; without it, beside the snapshot', { nullWord: 'none' }),
  }),
  ...f.under('ONNX', {
    precision: f.choice(
      'fp32; fp16: layers compute in float16; int8: weights are stored in 8 bits, at a quarter of the size',
      ONNX_PRECISIONS,
      { default: 'fp32' },
    ),
    license: f.path("Text file with the network's licence, for the metadata", { nullWord: 'none' }),
    autoencoder: generateFields.autoencoder,
  }),
};

export function register(program: Command): void {
  const command = program
    .command('export')
    .description(
      'Write the averaged weights of a run or snapshot as an ONNX model, a PyTorch state dict or plain safetensors.',
    );
  addFields(command, fields);
  command.addHelpText('after', HELP).action(runExport);
}

async function runExport(given: Record<string, unknown>): Promise<void> {
  const { run, network, format, out, precision, license, autoencoder } = readFlags(fields, given);
  if ((run === null) === (network === null)) {
    throw usageError('NO_NETWORK', 'say which network to export: --run RUN_FOLDER, or --network SNAPSHOT');
  }
  if (format !== 'onnx') {
    const other = { precision: precision !== fields.precision.default, license, autoencoder };
    for (const [name, value] of Object.entries(other)) {
      if (value) throw usageError('ONNX_ONLY', `--${name} is for --format onnx; leave it out`);
    }
  }
  const text = license === null ? null : await readLicense(license);
  const { exportSnapshot } = await import('../../interchange/export.js');
  const { tensors, files } = await withLine((line) =>
    exportSnapshot({
      ...{ run, network, format, out, precision, autoencoder, license: text },
      onProgress: (done, total) => line.set(fetchLine(done, total)),
      onNote: (text) => line.note(`note: ${text}`),
    }),
  );
  note(`${tensors} tensors`);
  for (const file of files) print(file);
}

function readLicense(file: string): Promise<string> {
  return guarded(`read the licence ${file}`, () => readFile(file, 'utf8'));
}
