/** `patch-diffusion prepare`: photos of any kind → training images of one size. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { oneLine } from '../../common/printable.js';
import { programName } from '../../common/program-name.js';
import { configSource } from '../../config/config-file.js';
import * as f from '../../config/fields.js';
import { type PrepareOptions, prepareFields, resolvePrepareOptions } from '../../config/prepare-options.js';
import { describeLabels } from '../../data/sample-labels.js';
import type { Progress } from '../../data/types.js';
import type { PrepareReport } from '../../prepare/prepare.js';
import { addFields, readFlags } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine } from '../progress.js';
import { checkPlace, nprocField, withRanks } from '../run-as-rank.js';
import { formatBytes, formatCount, note, print, warn, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion prepare ./photos --out photos-64.zip --resolution 64
  $ patch-diffusion prepare ./panoramas --out wide.zip --resolution 96x64
  $ patch-diffusion prepare ./photos --out latents.safetensors --resolution 256 --latents --autoencoder sd-vae-ft-ema
  $ patch-diffusion prepare train-images-idx3-ubyte.gz --out mnist.zip`;

/** What is being done, for the changing line. */
const PHASES = {
  scan: 'looking at images',
  decode: 'reading images',
  write: 'writing images',
  encode: 'encoding images',
};

/** Skipped files that are listed by name; the rest is counted. */
const LISTED = 10;

export function register(program: Command): void {
  const command = program
    .command('prepare')
    .description('Decode, crop and resize images once, into a zip or folder that training reads quickly.')
    .argument('[source]', 'Folder, zip or idx file of images')
    .option('--config <file>', 'Options from a JSON or YAML file');
  addFields(command, prepareFields);
  addFields(command, ownFields);
  command.addHelpText('after', HELP).action(runPrepare);
}

const ownFields = f.under('Latents', { nproc: nprocField });

async function runPrepare(source: string | undefined, given: Record<string, unknown>): Promise<void> {
  if (source !== undefined && given.source !== undefined) {
    throw usageError(
      'OPTION_GIVEN_TWICE',
      'the source is given twice, as argument and as --source; give one of them',
    );
  }
  const { config, nproc: nprocFlag, ...rest } = given;
  const { nproc } = readFlags(ownFields, { nproc: nprocFlag });
  const flags = source === undefined ? rest : { ...rest, source };
  const options = resolvePrepareOptions({ flags, file: await configSource(config) });
  const place = checkPlace(nproc);
  if (!options.latents && (nproc > 1 || place))
    throw usageError(
      'BAD_OPTION',
      'several processes only help to encode --latents; leave --nproc out, images are prepared in threads',
    );
  await withRanks({ nproc }, async (ranks) => {
    const { helpToPrepare, prepare } = await import('../../prepare/prepare.js');
    const report = await withLine((line) =>
      interruptible(
        () => 'removing the unfinished result',
        (text) => line.note(text),
        async (signal) => {
          if (ranks && !ranks.isWriter) return helpToPrepare(options, ranks, signal);
          const onProgress: Progress = (done, total, phase) =>
            line.set(countLine(PHASES[phase], done, total));
          return prepare(options, { signal, ranks, onProgress });
        },
      ),
    );
    if (report) show(options, report);
  });
}

function show({ source }: PrepareOptions, report: PrepareReport): void {
  for (const warning of report.warnings) warn(warning);
  for (const { file, reason } of report.skipped.slice(0, LISTED)) note(oneLine(`skipped ${file}: ${reason}`));
  if (report.skipped.length > LISTED) {
    const more = formatCount(report.skipped.length - LISTED);
    note(`… and ${more} more; all of them: ${programName()} info ${source} --verify`);
  }
  print(`${report.out}: ${summary(report)}`);
  note(`Train on them with: ${programName()} train --data ${report.out}`);
}

/** `5,000 images, 64×64 px, 3 channels, no labels, 12 MiB` */
function summary({ used, width, height, channels, labelDim, labels, std, bytes }: PrepareReport): string {
  const size = std === undefined ? `${width}×${height} px` : `latents of ${width}×${height}`;
  return [
    `${formatCount(used)} images`,
    size,
    `${channels} channels`,
    describeLabels(labelDim, labels),
    ...(std === undefined ? [] : [`standard deviation ${std.toPrecision(3)}`]),
    formatBytes(bytes),
  ].join(', ');
}
