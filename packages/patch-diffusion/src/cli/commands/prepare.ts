/** `patch-diffusion prepare`: photos of any kind → training images of one size. */

import type { Command } from 'commander';
import { prepareDefaults, prepareFields, resolvePrepareFlags } from '../../config/prepare-fields.js';
import { usageError } from '../../config/read-values.js';
import { programName } from '../../program-name.js';
import { addFields } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine, LiveLine } from '../progress.js';
import { formatBytes, formatCount, note, paint, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion prepare ./photos --out photos-64.zip --resolution 64
  $ patch-diffusion prepare ./panoramas --out wide.zip --resolution 96x64
  $ patch-diffusion prepare ./photos --out latents.safetensors --resolution 256 --latents --autoencoder sd-vae-ft-ema
  $ patch-diffusion prepare train-images-idx3-ubyte.gz --out mnist.zip`;

/** Skipped files that are listed by name; the rest is counted. */
const LISTED = 10;

export function register(program: Command): void {
  const command = program
    .command('prepare')
    .summary('Turn a folder of photos into training images of one size')
    .description('Decode, crop and resize images once, into a zip or folder that training reads quickly.')
    .argument('[source]', 'Folder, zip or idx file of images');
  addFields(command, prepareFields, prepareDefaults);
  command.addHelpText('after', HELP).action(runPrepare);
}

async function runPrepare(
  source: string | undefined,
  { verbose, ...given }: Record<string, unknown>,
): Promise<void> {
  if (source !== undefined && given.source !== undefined) {
    throw usageError(
      'OPTION_GIVEN_TWICE',
      'the source is given twice, as argument and as --source; give one of them',
    );
  }
  const options = resolvePrepareFlags({ ...given, ...(source === undefined ? {} : { source }) });
  const { resolution, channels, maxImages, autoencoder, encodeBatch, ...rest } = options;
  const { prepare } = await import('../../data/prepare.js');
  const line = new LiveLine();
  const words = {
    scan: 'looking at images',
    decode: 'reading images',
    write: 'writing images',
    encode: 'encoding images',
  };
  try {
    const report = await interruptible(
      () => 'removing the unfinished result',
      (text) => line.print(text),
      (signal) =>
        prepare(
          {
            ...rest,
            ...(resolution === null ? {} : { resolution }),
            ...(channels === null ? {} : { channels }),
            ...(maxImages === null ? {} : { maxImages }),
            ...(autoencoder === null ? {} : { autoencoder }),
            ...(encodeBatch === null ? {} : { encodeBatch }),
          },
          { signal, onProgress: (done, total, phase) => line.set(countLine(words[phase], done, total)) },
        ),
    );
    line.clear();
    for (const warning of report.warnings) note(paint(process.stderr, 'yellow', `warning: ${warning}`));
    for (const { file, reason } of report.skipped.slice(0, LISTED)) note(`skipped ${file}: ${reason}`);
    if (report.skipped.length > LISTED) note(`… and ${formatCount(report.skipped.length - LISTED)} more`);
    const labels = report.labelDim === 0 ? 'no labels' : `${report.labelDim} classes`;
    const size = report.std === undefined ? '' : 'latents of ';
    const px = report.std === undefined ? ' px' : '';
    const spread = report.std === undefined ? '' : `, standard deviation ${report.std.toPrecision(3)}`;
    const what = `${size}${report.width}×${report.height}${px}, ${report.channels} channels, ${labels}${spread}`;
    print(`${report.out}: ${formatCount(report.used)} images, ${what}, ${formatBytes(report.bytes)}`);
    note(`Train on them with: ${programName()} train --data ${report.out}`);
  } finally {
    line.clear();
  }
}
