/**
 * Options of `generate`: which network, which seeds, which sampler settings, which window of the image plane.
 * Defaults of the sampler are those of EDM (arXiv 2206.00364, algorithm 2); names of the official generator are
 * aliases.
 */

import { join } from 'node:path';
import { z } from 'zod';
import { PRECISIONS } from '../diffusion/precision.js';
import { SAMPLERS } from '../diffusion/samplers/index.js';
import * as f from './fields.js';
import { type Origin, readValues, usageError } from './read-values.js';

const NETWORK = 'Network';
const WHAT = 'What to generate';
const GUIDANCE = 'Guidance';
const SAMPLER = 'Sampler';
const OUTPUT = 'Output';
const MACHINE = 'Machine';

/** Field schemas of {@link GenerateOptions}, in the order of the help page. */
export const generateFields = {
  run: f.pathOrNull('Run folder; its newest snapshot is used', { group: NETWORK, nullWord: 'none' }),
  network: f.pathOrNull('Snapshot: .safetensors, official .pkl, an address, or hf:owner/repository/file', {
    group: NETWORK,
    nullWord: 'none',
  }),

  autoencoder: f.pathOrNull('Folder of the autoencoder, for a network that was trained on latents', {
    group: NETWORK,
    nullWord: 'recorded',
  }),

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
  imageSize: f.sizeOrNull(
    'Side, or width and height, of the generated window; larger than the training images extrapolates',
    {
      group: WHAT,
      unit: 'px',
      min: 1,
      max: 16_384,
      nullWord: 'auto',
    },
  ),
  xStart: f.int('Left edge of the window', { group: WHAT, unit: 'px', min: -16_384, max: 16_384 }),
  yStart: f.int('Top edge of the window', { group: WHAT, unit: 'px', min: -16_384, max: 16_384 }),

  cfg: f.numberOrNull('Guidance scale; 1 is none', { group: GUIDANCE, min: 0, nullWord: 'none' }),
  cfgInterval: f.numberPairOrNull('Guidance only at noise levels above the first and up to the second', {
    group: GUIDANCE,
    min: 0,
    nullWord: 'all',
    example: '0.28,2.9',
  }),
  guide: f.pathOrNull(
    'Snapshot of a smaller or less trained network that --cfg leads away from; without it, away from no class',
    { group: GUIDANCE, nullWord: 'none' },
  ),
  maskPos: f.boolean('Sample without coordinates; only for networks without them, where it changes nothing', {
    group: WHAT,
  }),

  sampler: f.choice(
    'Sampler: edm (Heun); generalised (the ablations of EDM); dpmpp-2m or dpmpp-2m-sde (DPM-Solver++)',
    SAMPLERS,
    { group: SAMPLER },
  ),
  steps: f.intOrNull('Sampler steps; auto: as recorded with the network, else 18', {
    group: SAMPLER,
    unit: 'steps',
    min: 1,
    max: 100_000,
    nullWord: 'auto',
    aliases: [{ name: 'num-steps' }],
  }),
  sigmaMin: f.numberOrNull('Lowest noise level; auto: 0.002, or that of --discretization', {
    group: SAMPLER,
    above: 0,
    nullWord: 'auto',
  }),
  sigmaMax: f.numberOrNull('Highest noise level; auto: 80, or that of --discretization', {
    group: SAMPLER,
    above: 0,
    nullWord: 'auto',
  }),
  rho: f.number('Exponent of the noise-level schedule', { group: SAMPLER, above: 0 }),
  sChurn: f.numberOrNull(
    'Stochasticity: noise added per sampling; 0 is deterministic; auto: as recorded with the network, else 0',
    { group: SAMPLER, min: 0, nullWord: 'auto' },
  ),
  sMin: f.number('Noise is added only above this level', { group: SAMPLER, min: 0 }),
  sMax: f.numberOrNull('Noise is added only below this level', { group: SAMPLER, min: 0, nullWord: 'inf' }),
  sNoise: f.number('Factor on the added noise', { group: SAMPLER, min: 0 }),
  solver: f.choiceOrNull('Order of the generalised sampler: euler or heun', ['euler', 'heun'], {
    group: SAMPLER,
    nullWord: 'auto',
  }),
  discretization: f.choiceOrNull('Noise levels of the generalised sampler', ['vp', 've', 'iddpm', 'edm'], {
    group: SAMPLER,
    nullWord: 'auto',
    aliases: [{ name: 'disc' }],
  }),
  schedule: f.choiceOrNull('σ(t) of the generalised sampler', ['vp', 've', 'linear'], {
    group: SAMPLER,
    nullWord: 'auto',
  }),
  scaling: f.choiceOrNull('s(t) of the generalised sampler', ['vp', 'none'], {
    group: SAMPLER,
    nullWord: 'auto',
  }),
  alpha: f.numberOrNull(
    'Where in its step the generalised sampler evaluates again; 1 is Heun, 0.5 the midpoint',
    {
      group: SAMPLER,
      above: 0,
      max: 1,
      nullWord: 'auto',
    },
  ),
  stateDtype: f.choice(
    'Precision of the sampler state; that of the network is --precision',
    ['float64', 'float32'],
    {
      group: SAMPLER,
    },
  ),

  out: f.pathOrNull('Folder for one PNG per seed; without it and --grid, generated/ in the run, or here', {
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
  precision: f.choice('Precision of the network body; bf16 is fast where the hardware has it', PRECISIONS, {
    group: MACHINE,
  }),
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
  autoencoder: null,
  seeds: Array.from({ length: 64 }, (_, i) => i),
  count: null,
  class: null,
  imageSize: null,
  xStart: 0,
  yStart: 0,
  cfg: null,
  cfgInterval: null,
  guide: null,
  maskPos: false,
  sampler: 'edm',
  steps: null,
  sigmaMin: null,
  sigmaMax: null,
  rho: 7,
  sChurn: null,
  sMin: 0,
  sMax: null,
  sNoise: 1,
  solver: null,
  discretization: null,
  schedule: null,
  scaling: null,
  alpha: null,
  stateDtype: 'float64',
  out: null,
  grid: null,
  subdirs: false,
  batch: 64,
  device: 'auto',
  precision: 'fp32',
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
  chooseSampler(options, given);
  checkGuidance(options);
  // Without --out, single images go beside the network; with only --grid, none are written.
  if (options.out === null && options.grid === null) {
    options.out = options.run === null ? 'generated' : join(options.run, 'generated');
  }
  return options;
}

/** Options that only the generalised sampler has. As in the official generator, any of them chooses it. */
const GENERALISED = ['solver', 'discretization', 'schedule', 'scaling', 'alpha'] as const;

function chooseSampler(options: GenerateOptions, given: Readonly<Record<string, unknown>>): void {
  const special = GENERALISED.find((key) => options[key] !== null);
  if (special && given.sampler === undefined) options.sampler = 'generalised';
  if (special && options.sampler !== 'generalised') {
    throw usageError(
      'BAD_OPTION',
      `--${special} belongs to --sampler generalised, not ${options.sampler}; leave one of them out`,
    );
  }
  if (options.sChurn !== null && options.sChurn > 0 && options.sampler.startsWith('dpmpp')) {
    throw usageError(
      'BAD_OPTION',
      `--s-churn belongs to the edm and generalised samplers; leave it out, or use --sampler dpmpp-2m-sde for fresh noise`,
    );
  }
  const isEdm = (options.discretization ?? 'edm') === 'edm';
  const sigmaMin = options.sigmaMin ?? (isEdm ? 0.002 : 0);
  const sigmaMax = options.sigmaMax ?? (isEdm ? 80 : Number.POSITIVE_INFINITY);
  if (sigmaMin >= sigmaMax) {
    throw usageError('BAD_OPTION', `--sigma-min ${sigmaMin} must be below --sigma-max ${sigmaMax}`);
  }
}

function checkGuidance({ cfg, cfgInterval, guide }: GenerateOptions): void {
  const dependent = guide !== null ? '--guide' : cfgInterval !== null ? '--cfg-interval' : null;
  if (cfg === null && dependent !== null) {
    throw usageError('BAD_OPTION', `${dependent} needs a guidance scale; add --cfg, such as --cfg 2`);
  }
  if (cfgInterval !== null && cfgInterval[0] >= cfgInterval[1]) {
    throw usageError(
      'BAD_OPTION',
      `--cfg-interval ${cfgInterval}: the first noise level must be below the second`,
    );
  }
}
