/** `patch-diffusion generate`: images from a trained network. */

import type { Command } from 'commander';
import { followLauncher, tellLauncher } from '../../common/launched.js';
import { configSource } from '../../config/config-file.js';
import * as f from '../../config/fields.js';
import { generateFields, resolveGenerateOptions } from '../../config/generate-options.js';
import { officialGenerateOptions, takeOfficialOptions } from '../../config/official.js';
import type { GenerateEvent } from '../../sampling/generate.js';
import { addFields, addOfficial, readFlags } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine } from '../progress.js';
import { nprocField, withRanks } from '../run-as-rank.js';
import { fetchLine, type LiveLine, note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion generate --run runs/00000-photos-64 --count 64 --grid sheet.png
  $ patch-diffusion generate --run runs/00000-photos-64 --seeds 7,100-131 --out images
  $ patch-diffusion generate --network network-snapshot-000200.safetensors --steps 50
  $ patch-diffusion generate --run runs/00000-photos-64 --image-size 96 --x-start -16 --y-start -16
  $ patch-diffusion generate --run runs/00000-photos-64 --sampler dpmpp-2m --steps 16
  $ patch-diffusion generate --run runs/00000-photos-64 --class owl --cfg 2 --cfg-interval 0.28,2.9
  $ patch-diffusion generate --run runs/00000-photos-64 --cfg 2 --guide auto
  $ patch-diffusion generate --run runs/00001-galaxies --label 0.3,103

A seed gives the same image in every batch size. With --grid and no --out, only the sheet is written.
The class or label of each image is in the PNG (as text) and in labels.json beside the images.
Names of the official generator work too: --outdir, --S_churn, --x_start, --image_size, …`;

export function register(program: Command): void {
  const command = program
    .command('generate')
    .description('Draw images from a run or a snapshot with the EDM sampler or another, one image per seed.')
    .option('--config <file>', 'Options from a JSON or YAML file');
  addFields(command, generateFields);
  addFields(command, ownFields);
  addOfficial(command, officialGenerateOptions);
  command.addHelpText('after', HELP).action(runGenerate);
}

const ownFields = f.under('Machine', { nproc: nprocField });

async function runGenerate(given: Record<string, unknown>): Promise<void> {
  const { config, nproc: nprocFlag, ...rest } = given;
  const { nproc } = readFlags(ownFields, { nproc: nprocFlag });
  const { flags, notes } = takeOfficialOptions(rest, officialGenerateOptions);
  for (const text of notes) note(`note: ${text}`);
  const options = resolveGenerateOptions({ flags, file: await configSource(config) });
  await withRanks({ nproc }, async (ranks) => {
    if (!ranks) followLauncher();
    const { generate } = await import('../../sampling/generate.js');
    const result = await withLine((line) =>
      interruptible(
        () => 'finishing the file that is being written',
        (text) => line.note(text),
        (signal) => generate(options, { signal, ranks, onEvent: (event) => show(event, line) }),
      ),
    );
    for (const file of result.files) print(file);
    if (result.sheet !== undefined && (ranks?.isWriter ?? true)) print(result.sheet);
  });
}

function show(event: GenerateEvent, line: LiveLine): void {
  tellLauncher(event);
  switch (event.type) {
    case 'warning':
      line.warn(event.message);
      break;
    case 'guide':
      line.note(`guided by ${event.network}`);
      break;
    case 'fetch':
      line.set(fetchLine(event.doneBytes, event.totalBytes));
      break;
    case 'progress': {
      const { done, total, step, numSteps } = event;
      line.set(`${countLine('drawing images', done, total)} step ${step}/${numSteps}`);
    }
  }
}
