/** `patch-diffusion ema`: chooses the span of weight averaging after training. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { guarded } from '../../common/file-error.js';
import { type EmaOptions, emaFields, resolveEmaOptions } from '../../config/ema-options.js';
import type { SweepResult, SweepRow } from '../../evaluation/ema-sweep.js';
import { addFields } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine } from '../progress.js';
import { note, print, table, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion train --data photos-64.zip --preset small --holdout 200 --power-ema
  $ patch-diffusion ema runs/00000-photos-64 --sweep 0.03:0.25
  $ patch-diffusion ema runs/00000-photos-64 --length 0.13 --out average.safetensors
  $ patch-diffusion generate --run runs/00000-photos-64 --ema 0.13 --grid sheet.png

A run that was trained with --power-ema stores two averages of its weights, of relative lengths 0.05 and 0.1, with each
snapshot. An average of any length is made of them: "fit" says how far it is from the exact one.`;

export function register(program: Command): void {
  const command = program
    .command('ema')
    .description('Make averages of the weights of a run, of any length, and find the best one.')
    .argument('[run]', 'Run folder (or --run)');
  addFields(command, emaFields);
  command.addHelpText('after', HELP).action(runEma);
}

async function runEma(path: string | undefined, given: Record<string, unknown>): Promise<void> {
  if (path !== undefined && given.run !== undefined)
    throw usageError('OPTION_GIVEN_TWICE', 'give the run as an argument or with --run, not both');
  const options = resolveEmaOptions({ flags: path === undefined ? given : { ...given, run: path } });
  const { sweep } = options;
  if (sweep !== null) {
    await runSweep({ ...options, sweep });
    return;
  }
  const { run, out, kimg } = options;
  const length = options.length!;
  const [{ join }, { writeAverage }, { AVERAGES_FOLDER }] = await Promise.all([
    import('node:path'),
    import('../../evaluation/ema-sweep.js'),
    import('../../run/runs.js'),
  ]);
  const file = out ?? join(run, AVERAGES_FOLDER, `ema-${length}.safetensors`);
  const { fitError, condition, sources } = await writeAverage(run, length, kimg && kimg * 1000, file);
  note(
    `average of length ${length} from ${sources} stored times: fit ${percent(fitError)}, condition ${condition.toPrecision(2)}`,
  );
  print(file);
}

async function runSweep(options: EmaOptions & { readonly sweep: readonly [number, number] }): Promise<void> {
  const { json, out } = options;
  const { sweepEma } = await import('../../evaluation/ema-sweep.js');
  const result = await withLine((line) =>
    interruptible(
      () => null,
      (text) => line.note(text),
      (signal) =>
        sweepEma(options, {
          signal,
          onEvent: (event) => {
            if (event.type === 'warning') line.warn(event.message);
            else if (event.type === 'progress') line.set(countLine(event.what, event.done, event.total));
          },
        }),
    ),
  );
  if (json !== null) {
    const { writeFileAtomic } = await import('@patch-diffusion/torch/atomic-file');
    await guarded(`write ${json}`, () =>
      writeFileAtomic(json, `${JSON.stringify({ format: 1, ...result }, null, 2)}\n`),
    );
  }
  print(sweepTable(result));
  for (const file of [out, json]) if (file !== null) note(`written: ${file}`);
}

/** A line for each average; the best one is marked. */
function sweepTable({ rows, best, isHeldOut }: SweepResult): string {
  const cells = (row: SweepRow): [string, string] => {
    const { value, low, high, n } = row.loss;
    const fit = row.fitError === null ? '' : `  fit ${percent(row.fitError)}`;
    const mark = row === best ? '  best' : '';
    const figures = `${value.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}]  n ${n}`;
    return [row.length === null ? "the run's" : String(row.length), `${figures}${fit}${mark}`];
  };
  return table([['length', isHeldOut ? 'held-out loss' : 'loss on training images'], ...rows.map(cells)]);
}

const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
