/** Options of `ema`: networks whose weights are averaged over other spans of a run than the one it was trained with. */

import { usageError } from '../common/errors.js';
import { evaluateFields } from './evaluate-options.js';
import * as f from './fields.js';
import { type OptionSources, readSources, withDefaults } from './read-values.js';

const { data, trainData, lossImages } = evaluateFields;
const { batch, device, precision, threads, autoencoder } = evaluateFields;

/** Fields of {@link EmaOptions}, in the order of the help page. */
export const emaFields = {
  ...f.under('What to make', {
    run: f.path('Run folder; the run was trained with --power-ema'),
    length: f.emaLength('Length of the average, relative to the run (its standard deviation)'),
    sweep: f.string('Compare lengths from one to another by their held-out loss', {
      placeholder: 'from:to',
      nullWord: 'none',
    }),
    points: f.int('Lengths of the sweep', { min: 2, max: 100, default: 8 }),
    kimg: f.number('Where the average ends; auto: at the newest stored averages', {
      unit: 'kimg',
      above: 0,
      nullWord: 'auto',
    }),
  }),
  ...f.under('Real images', { data, trainData, lossImages }),
  ...f.under('Output', {
    out: f.path(
      'Snapshot to write (of a sweep: the best); without it, --length writes one beside the averages',
      {
        nullWord: 'none',
      },
    ),
    json: f.path('Also write the figures of the sweep to this JSON file', { nullWord: 'none' }),
  }),
  ...f.under('Machine', { batch, device, precision, threads, autoencoder }),
};

/** Resolved options of `ema`; every key has its value (null = not set). */
export interface EmaOptions extends Omit<f.Values<typeof emaFields>, 'sweep'> {
  /** Shortest and longest average, or null. */
  readonly sweep: readonly [number, number] | null;
}

/**
 * Resolves and checks the options of `ema`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveEmaOptions(sources: OptionSources): EmaOptions {
  const given = readSources(emaFields, sources);
  if (given.run === undefined)
    throw usageError('NO_RUN', 'say which run: patch-diffusion ema RUN_FOLDER --length 0.1');
  const options = withDefaults(emaFields, given);
  const { length, sweep } = options;
  if ((length === null) === (sweep === null))
    throw usageError('BAD_OPTION', 'give either --length, such as 0.1, or --sweep, such as 0.03:0.25');
  if (sweep === null && options.json !== null)
    throw usageError('BAD_OPTION', '--json has the figures of a sweep; add --sweep, or leave it out');
  return { ...options, sweep: sweep === null ? null : rangeOf(sweep) };
}

function rangeOf(text: string): readonly [number, number] {
  const { min, max } = f.EMA_LENGTHS;
  const [from, to, ...rest] = text.split(':').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (rest.length === 0 && from >= min && to > from && to <= max) return [from, to];
  throw usageError(
    'BAD_OPTION',
    `--sweep ${text}: must be two lengths from ${min} to ${max}, the shorter one first, such as 0.03:0.25`,
  );
}
