/**
 * Options of `generate`: which network, which seeds, which sampler settings, which window of the image plane.
 * Defaults of the sampler are those of EDM (arXiv 2206.00364, algorithm 2); names of the official generator are
 * aliases.
 */

import { join } from 'node:path';
import { z } from 'zod';
import * as f from './fields.js';
import { type Origin, readValues, usageError } from './read-values.js';

const NETWORK = 'Network';
const WHAT = 'What to generate';
const SAMPLER = 'Sampler';
const OUTPUT = 'Output';
const MACHINE = 'Machine';

/** Field schemas of {@link GenerateOptions}, in the order of the help page. */
export const generateFields = {
  run: f.pathOrNull('Run folder; its newest snapshot is used', { group: NETWORK, nullWord: 'none' }),
  network: f.pathOrNull('Snapshot file (.safetensors)', { group: NETWORK, nullWord: 'none' }),

  seeds: f.seeds('Seeds, one image each', { group: WHAT }),
  count: f.intOrNull('Number of images: seeds 0 to count − 1', {
    group: WHAT,
    unit: 'images',
    min: 1,
    max: 10_000_000,
    nullWord: 'auto',
  }),
  class: f.intOrNull('Class of all images; random per seed when not given', {
    group: WHAT,
    min: 0,
    nullWord: 'random',
  }),
  cfg: f.numberOrNull('Classifier-free guidance scale; 1 is none', { group: WHAT, min: 0, nullWord: 'none' }),
  imageSize: f.intOrNull('Side of the generated window; larger than the training images extrapolates', {
    group: WHAT,
    unit: 'px',
    min: 1,
    max: 16_384,
    nullWord: 'auto',
  }),
  xStart: f.int('Left edge of the window', { group: WHAT, unit: 'px', min: -16_384, max: 16_384 }),
  yStart: f.int('Top edge of the window', { group: WHAT, unit: 'px', min: -16_384, max: 16_384 }),

  steps: f.intOrNull('Sampler steps; auto: as recorded with the network, else 18', {
    group: SAMPLER,
    unit: 'steps',
    min: 1,
    max: 100_000,
    nullWord: 'auto',
    aliases: [{ name: 'num-steps' }],
  }),
  sigmaMin: f.number('Lowest noise level', { group: SAMPLER, above: 0 }),
  sigmaMax: f.number('Highest noise level', { group: SAMPLER, above: 0 }),
  rho: f.number('Exponent of the noise-level schedule', { group: SAMPLER, above: 0 }),
  sChurn: f.number('Stochasticity: noise added per sampling; 0 is deterministic', { group: SAMPLER, min: 0 }),
  sMin: f.number('Noise is added only above this level', { group: SAMPLER, min: 0 }),
  sMax: f.numberOrNull('Noise is added only below this level', { group: SAMPLER, min: 0, nullWord: 'inf' }),
  sNoise: f.number('Factor on the added noise', { group: SAMPLER, min: 0 }),
  stateDtype: f.choice(
    'Precision of the sampler state; the network runs in float32',
    ['float64', 'float32'],
    {
      group: SAMPLER,
    },
  ),

  out: f.pathOrNull('Folder for one PNG per seed', {
    group: OUTPUT,
    nullWord: 'none',
    aliases: [{ name: 'outdir' }],
  }),
  grid: f.pathOrNull('Also write all images as one sheet, to this PNG file', {
    group: OUTPUT,
    nullWord: 'none',
  }),
  subdirs: f.boolean('One sub-folder per 1000 seeds', { group: OUTPUT }),

  batch: f.int('Images at a time', { group: MACHINE, unit: 'images', min: 1, max: 1_000_000 }),
  device: f.string('auto, cpu, cuda, cuda:1 or mps', { group: MACHINE, placeholder: 'name' }),
  threads: f.intOrNull('CPU threads', { group: MACHINE, min: 1, max: 4096, nullWord: 'auto' }),
};

export const GenerateOptionsSchema = z.strictObject(generateFields);

/** Resolved options of `generate`; every key has its value (null = not set). */
export type GenerateOptions = z.infer<typeof GenerateOptionsSchema>;

/** What a user writes: any subset of the keys. */
export type GenerateOptionsInput = Partial<GenerateOptions>;

/** EDM's sampler defaults, and the official generator's seeds 0-63. */
export const generateDefaults: GenerateOptions = {
  run: null,
  network: null,
  seeds: Array.from({ length: 64 }, (_, i) => i),
  count: null,
  class: null,
  cfg: null,
  imageSize: null,
  xStart: 0,
  yStart: 0,
  steps: null,
  sigmaMin: 0.002,
  sigmaMax: 80,
  rho: 7,
  sChurn: 0,
  sMin: 0,
  sMax: null,
  sNoise: 1,
  stateDtype: 'float64',
  out: null,
  grid: null,
  subdirs: false,
  batch: 64,
  device: 'auto',
  threads: null,
};

/**
 * Resolves and checks the options of `generate`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveGenerateOptions(sources: {
  readonly file?: { readonly name: string; readonly values: Readonly<Record<string, unknown>> };
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly call?: Readonly<Record<string, unknown>>;
}): GenerateOptions {
  const given: Record<string, unknown> = {};
  const read = (values: Readonly<Record<string, unknown>> | undefined, origin: Origin): void => {
    if (values !== undefined) Object.assign(given, readValues(generateFields, values, origin));
  };
  read(sources.file?.values, { kind: 'file', file: sources.file?.name ?? '' });
  read(sources.call, { kind: 'call' });
  read(sources.flags, { kind: 'flag' });
  const options: GenerateOptions = GenerateOptionsSchema.parse({ ...generateDefaults, ...given });

  if ((options.run === null) === (options.network === null)) {
    throw usageError(
      'NO_NETWORK',
      'say which network to use: --run RUN_FOLDER, or --network SNAPSHOT.safetensors',
    );
  }
  if (options.count !== null) {
    const seeds = Array.from({ length: options.count }, (_, i) => i);
    if (given.seeds !== undefined && JSON.stringify(seeds) !== JSON.stringify(options.seeds)) {
      throw usageError('BAD_OPTION', '--count and --seeds exclude each other; give one of them');
    }
    options.seeds = seeds;
  }
  if (options.sigmaMin >= options.sigmaMax) {
    const given = `--sigma-min ${options.sigmaMin}`;
    throw usageError('BAD_OPTION', `${given} must be below --sigma-max ${options.sigmaMax}`);
  }
  // Without --out, single images go beside the network; with only --grid, none are written.
  if (options.out === null && options.grid === null) {
    options.out = options.run === null ? 'generated' : join(options.run, 'generated');
  }
  return options;
}
