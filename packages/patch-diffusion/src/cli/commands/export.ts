/** `patch-diffusion export`: weights for other programs. */

import { type Command, Option } from 'commander';
import type { ExportFormat } from '../../interchange/export.js';
import { LiveLine } from '../progress.js';
import { fetchLine, note, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion export --run runs/00000-photos-64 --format torch --out weights.pt
  $ python -c "import torch; print(torch.load('weights.pt', weights_only=True).keys())"
  $ patch-diffusion export --network network-snapshot-050000.pkl --format safetensors

Tensors have their official names (model.enc.64x64_conv.weight, …). The network's constructor arguments are in a .json
file beside the weights (torch), or in the file's metadata under "config" (safetensors).`;

interface Given {
  readonly run?: string;
  readonly network?: string;
  readonly format: ExportFormat;
  readonly out?: string;
}

export function register(program: Command): void {
  program
    .command('export')
    .summary('Write the weights for other programs')
    .description(
      'Write the averaged weights of a run or snapshot as a PyTorch state dict or plain safetensors.',
    )
    .option('--run <folder>', 'Run folder; its newest snapshot is used')
    .option(
      '--network <file>',
      'Snapshot: .safetensors, official .pkl, an address, or hf:owner/repository/path',
    )
    .addOption(
      new Option('--format <format>', 'Format of the file')
        .choices(['torch', 'safetensors'])
        .makeOptionMandatory(),
    )
    .option('--out <file>', 'File to write (default: beside the snapshot)')
    .addHelpText('after', HELP)
    .action(runExport);
}

async function runExport({ run, network, format, out }: Given): Promise<void> {
  const { UserError } = await import('../../errors.js');
  if ((run === undefined) === (network === undefined)) {
    throw new UserError(
      'NO_NETWORK',
      'say which network to export: --run RUN_FOLDER, or --network SNAPSHOT',
      { exitCode: 2 },
    );
  }
  const { exportSnapshot } = await import('../../interchange/export.js');
  const line = new LiveLine();
  try {
    const result = await exportSnapshot({
      run: run ?? null,
      network: network ?? null,
      format,
      out: out ?? null,
      onProgress: (done, total) => line.set(fetchLine(done, total)),
      onNote: (text) => line.print(`note: ${text}`),
    });
    line.clear();
    note(`${result.tensors} tensors`);
    for (const file of result.files) print(file);
  } finally {
    line.clear();
  }
}
