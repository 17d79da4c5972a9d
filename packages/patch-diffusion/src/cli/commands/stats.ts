/** `patch-diffusion stats`: reference statistics of images for FID. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { configSource } from '../../config/config-file.js';
import { resolveStatsOptions, statsFields } from '../../config/stats-options.js';
import { showEvaluation } from '../evaluation-events.js';
import { addFields } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { formatCount, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion stats photos-64.zip --out photos-64.npz --inception-weights pt_inception-2015-12-05-6726825d.pth
  $ patch-diffusion evaluate --images ./generated --reference photos-64.npz --inception-weights pt_inception-2015-12-05-6726825d.pth
  $ patch-diffusion stats ./birds --out birds.npz --features classifier --resolution 64

The file has mu and sigma, as the official tool and NumPy read them. Ctrl-C keeps what is done; the same command continues.`;

export function register(program: Command): void {
  const command = program
    .command('stats')
    .description(
      'Write mean and covariance of the features of images, to measure the Fréchet distance to later.',
    )
    .argument('[data]', 'Folder, zip or idx file of images')
    .option('--config <file>', 'Options from a JSON or YAML file');
  addFields(command, statsFields);
  command.addHelpText('after', HELP).action(runStats);
}

async function runStats(data: string | undefined, given: Record<string, unknown>): Promise<void> {
  const { config, ...rest } = given;
  if (data !== undefined && rest.data !== undefined)
    throw usageError(
      'OPTION_GIVEN_TWICE',
      'the images are given twice, as argument and as --data; give one of them',
    );
  const flags = data === undefined ? rest : { ...rest, data };
  const options = resolveStatsOptions({ flags, file: await configSource(config) });
  const { writeStatistics } = await import('../../evaluation/statistics.js');
  const { out, count, features } = await withLine((line) =>
    interruptible(
      () => 'what is done is kept',
      (text) => line.note(text),
      (signal) => writeStatistics(options, { signal, onEvent: (event) => showEvaluation(event, line) }),
    ),
  );
  const kind = features.kind === 'classes' ? 'a classifier' : 'Inception';
  print(`${out}: ${formatCount(count)} images, ${features.dim} features of ${kind}`);
}
