/** `patch-diffusion evaluate`: what a model is worth, in figures. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { configSource } from '../../config/config-file.js';
import { evaluateFields, resolveEvaluateOptions } from '../../config/evaluate-options.js';
import * as f from '../../config/fields.js';
import { showEvaluation } from '../evaluation-events.js';
import { addFields, readFlags } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { nprocField, withRanks } from '../run-as-rank.js';
import { note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion evaluate --run runs/00000-photos-64 --plots plots.png
  $ patch-diffusion evaluate --run runs/00000-photos-64 --data other-photos.zip --count 5000 --json figures.json
  $ patch-diffusion evaluate --network network-snapshot-000200.safetensors --metrics loss
  $ patch-diffusion evaluate runs/00000-photos-64 runs/00001-photos-64 --plots both.png
  $ patch-diffusion evaluate --images ./generated --data photos-64.zip
  $ patch-diffusion evaluate --run runs/00000-photos-64 --features classifier
  $ patch-diffusion evaluate --run runs/00000-photos-64 --inception-weights pt_inception-2015-12-05-6726825d.pth --count 10000

Each figure has its 95 % interval, the number of images n, and what real images score in place of samples.
Ctrl-C keeps what is done; the same command continues. docs/evaluation.md explains the figures.`;

export function register(program: Command): void {
  const command = program
    .command('evaluate')
    .description(
      'Measure how good a run, a snapshot or a folder of images is. In a run, the figures are added to evaluations.jsonl.',
    )
    .argument('[paths...]', 'Runs, snapshots or folders of images, side by side')
    .option('--config <file>', 'Options from a JSON or YAML file');
  addFields(command, evaluateFields);
  addFields(command, ownFields);
  command.addHelpText('after', HELP).action(runEvaluate);
}

const ownFields = f.under('Machine', { nproc: nprocField });

async function runEvaluate(paths: readonly string[], given: Record<string, unknown>): Promise<void> {
  const { config, nproc: nprocFlag, ...rest } = given;
  const { nproc } = readFlags(ownFields, { nproc: nprocFlag });
  if (paths.length > 0 && rest.compare !== undefined)
    throw usageError('OPTION_GIVEN_TWICE', 'give paths as arguments or with --compare, not both');
  const flags = paths.length > 0 ? { ...rest, compare: paths } : rest;
  const options = resolveEvaluateOptions({ flags, file: await configSource(config) });
  await withRanks({ nproc }, async (ranks) => {
    const { evaluateAll } = await import('../../evaluation/evaluate.js');
    const { evaluationTable } = await import('../../evaluation/table.js');
    const reports = await withLine((line) =>
      interruptible(
        () => 'what is done is kept',
        (text) => line.note(text),
        (signal) => evaluateAll(options, { signal, ranks, onEvent: (event) => showEvaluation(event, line) }),
      ),
    );
    if (ranks && !ranks.isWriter) return;
    print(evaluationTable(reports));
    for (const file of [options.json, options.plots]) if (file !== null) note(`written: ${file}`);
  });
}
