/** Options of `avatars`: one list for flags and the library. */

import { usageError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import * as f from './fields.js';
import { type OptionSources, readSources, withDefaults } from './read-values.js';

/** Avatars from this seed on are for measurements, those below it for training. */
export const HELD_OUT_SEED = 1_000_000;

/** Fields of {@link AvatarOptions}, in the order of the help page. */
export const avatarFields = {
  out: f.path('Zip to write, or a folder when it does not end in .zip'),
  style: f.choice(
    'pixel-art: faces of 16 px; pixel-art-simple: of fewer parts and colours, which minutes of training learn; open-peeps: drawings in colour, for 32 px and more (designs: CC0)',
    ['pixel-art', 'pixel-art-simple', 'open-peeps'],
    { default: 'pixel-art' },
  ),
  count: f.int('How many', { unit: 'images', min: 1, max: 10_000_000, default: 3000 }),
  resolution: f.int('Side of the images; auto: 32 for open-peeps, else 16', {
    unit: 'px',
    min: 8,
    max: 4096,
    nullWord: 'auto',
  }),
  firstSeed: f.int('Seed of the first one; each has the next seed', {
    min: 0,
    max: 2 ** 40,
    nullWord: 'auto',
  }),
  heldOut: f.boolean(`Seeds from ${HELD_OUT_SEED} on, to measure with; without, from 0 on, to train on`, {
    default: false,
  }),
  labels: f.boolean('Also write class labels: what the face wears (hat, glasses, beard or mask, or plain)', {
    default: false,
  }),
  force: f.boolean('Replace what is there already', { default: false }),
};

/** All options of `avatars`, complete and checked. */
export type AvatarOptions = f.Values<typeof avatarFields>;

/** What a caller gives; the rest has defaults. */
export type AvatarOptionsInput = Partial<AvatarOptions> & Pick<AvatarOptions, 'out'>;

/**
 * Resolves and checks the options of `avatars`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveAvatarOptions(sources: OptionSources): AvatarOptions {
  const given = readSources(avatarFields, sources);
  if (given.out === undefined) {
    throw usageError('MISSING_OUT', `no output given; add --out: ${programName()} avatars --out avatars.zip`);
  }
  const options = withDefaults(avatarFields, given);
  const { firstSeed, heldOut, count } = options;
  if (heldOut && firstSeed !== null)
    throw usageError('BAD_OPTION', '--first-seed and --held-out exclude each other; give one of them');
  if (firstSeed === null && !heldOut && count > HELD_OUT_SEED) {
    throw usageError(
      'BAD_OPTION',
      `--count ${count}: seeds for training end at ${HELD_OUT_SEED}; give --first-seed to go beyond`,
    );
  }
  return options;
}
