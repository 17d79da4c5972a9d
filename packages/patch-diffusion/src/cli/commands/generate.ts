/** `patch-diffusion generate`: images from a trained network. */

import type { Command } from 'commander';
import { configSource } from '../../config/config-file.js';
import { generateFields, resolveGenerateOptions } from '../../config/generate-options.js';
import { officialGenerateOptions, takeOfficialOptions } from '../../config/official.js';
import { addFields, addOfficial } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine, LiveLine } from '../progress.js';
import { fetchLine, note, paint, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion generate --run runs/00000-photos-64 --count 64 --grid sheet.png
  $ patch-diffusion generate --run runs/00000-photos-64 --seeds 7,100-131 --out images
  $ patch-diffusion generate --network network-snapshot-000200.safetensors --steps 50
  $ patch-diffusion generate --run runs/00000-photos-64 --image-size 96 --x-start -16 --y-start -16
  $ patch-diffusion generate --run runs/00000-photos-64 --sampler dpmpp-2m --steps 16
  $ patch-diffusion generate --run runs/00000-photos-64 --class 3 --cfg 2 --cfg-interval 0.28,2.9

A seed gives the same image in every batch size. With --grid and no --out, only the sheet is written.
Names of the official generator work too: --outdir, --S_churn, --x_start, --image_size, …`;

export function register(program: Command): void {
  const command = program
    .command('generate')
    .summary('Draw images from a trained model')
    .description('Draw images from a run or a snapshot with the EDM sampler or another, one image per seed.')
    .option('--config <file>', 'Options from a JSON or YAML file');
  addFields(command, generateFields);
  addOfficial(command, officialGenerateOptions);
  command.addHelpText('after', HELP).action(runGenerate);
}

async function runGenerate(given: Record<string, unknown>): Promise<void> {
  const { config, ...rest } = given;
  const { flags, notes } = takeOfficialOptions(rest, officialGenerateOptions);
  for (const text of notes) note(`note: ${text}`);
  const options = resolveGenerateOptions({ flags, file: await configSource(config) });
  const { generate } = await import('../../sampling/generate.js');
  const line = new LiveLine();
  try {
    const result = await interruptible(
      () => 'finishing the file that is being written',
      (text) => line.print(text),
      (signal) =>
        generate(options, {
          signal,
          onEvent: (event) => {
            if (event.type === 'warning') {
              line.print(paint(process.stderr, 'yellow', `warning: ${event.message}`));
              return;
            }
            if (event.type === 'fetch') {
              line.set(fetchLine(event.doneBytes, event.totalBytes));
              return;
            }
            const { done, total, step, numSteps } = event;
            line.set(`${countLine('drawing images', done, total)} step ${step}/${numSteps}`);
          },
        }),
    );
    line.clear();
    for (const file of result.files) print(file);
    if (result.sheet !== undefined) print(result.sheet);
  } finally {
    line.clear();
  }
}
