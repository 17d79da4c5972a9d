/** Options of `stats`: reference statistics of images for the Fréchet distance. */

import { usageError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import { featureFields, settleFeatures } from './evaluate-options.js';
import * as f from './fields.js';
import { type OptionSources, readSources, withDefaults } from './read-values.js';

/** Fields of {@link StatsOptions}, in the order of the help page. */
export const statsFields = {
  ...f.under('Files', {
    data: f.path('Folder, zip or idx file of images (or as the argument)'),
    out: f.path('File to write, .npz with mu and sigma as NumPy and the official tool read them', {
      aliases: [{ name: 'dest' }],
    }),
    force: f.boolean('Replace what is there already', { default: false }),
  }),
  ...f.under('Images', {
    resolution: f.size(
      'Side, or width and height, to which images are cropped and resized; auto: as they are',
      {
        unit: 'px',
        min: 1,
        max: 16_384,
        nullWord: 'auto',
      },
    ),
    count: f.int('Use at most this many images', { unit: 'images', min: 2, nullWord: 'all' }),
    ...featureFields,
  }),
  ...f.under('Machine', {
    batch: f.int('Images at a time', { unit: 'images', min: 1, max: 1_000_000, default: 64 }),
    device: f.device(),
    threads: f.threads(),
  }),
};

/** Resolved options of `stats`; every key has its value (null = not set). */
export type StatsOptions = f.Values<typeof statsFields>;

/**
 * Resolves and checks the options of `stats`.
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveStatsOptions(sources: OptionSources): StatsOptions {
  const given = readSources(statsFields, sources);
  if (given.data === undefined)
    throw usageError('NO_DATA', `say which images: ${programName()} stats FOLDER_OR_ZIP --out reference.npz`);
  if (given.out === undefined) throw usageError('NO_OUT', 'say which file to write: --out reference.npz');
  if (!/\.npz$/i.test(given.out))
    throw usageError('BAD_OPTION', `--out ${given.out}: statistics are written as .npz; name the file so`);
  const options = withDefaults(statsFields, given);
  settleFeatures(options);
  if (options.features === null) {
    throw usageError(
      'NO_FEATURES',
      'say of which features: --inception-weights FILE (those of FID), or --features classifier',
    );
  }
  return options;
}
