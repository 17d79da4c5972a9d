/**
 * Options of `generate`: which network, which seeds, which sampler settings, which window of the image plane.
 * Defaults of the sampler are those of EDM (arXiv 2206.00364, algorithm 2); names of the official generator are
 * aliases.
 */

import { join } from 'node:path';
import { usageError } from '../common/errors.js';
import { NOISE_SOURCES } from '../common/portable-random.js';
import { PRECISION_CHOICES } from '../diffusion/precision.js';
import { EDM_DEFAULTS } from '../diffusion/samplers/edm.js';
import { SAMPLERS, takesChurn } from '../diffusion/samplers/index.js';
import * as f from './fields.js';
import { defaultsOf, type OptionSources, readSources, withDefaults } from './read-values.js';
import { snapshotChoice } from './snapshot-choice.js';

/** Options that only the generalised sampler has. As in the official generator, any of them chooses it. */
const generalisedFields = {
  solver: f.choice('Order of the generalised sampler: euler or heun', ['euler', 'heun'], {
    nullWord: 'auto',
  }),
  discretization: f.choice('Noise levels of the generalised sampler', ['vp', 've', 'iddpm', 'edm'], {
    nullWord: 'auto',
    aliases: [{ name: 'disc' }],
  }),
  schedule: f.choice('σ(t) of the generalised sampler', ['vp', 've', 'linear'], { nullWord: 'auto' }),
  scaling: f.choice('s(t) of the generalised sampler', ['vp', 'none'], { nullWord: 'auto' }),
  alpha: f.number('Where in its step the generalised sampler evaluates again; 1 is Heun, 0.5 the midpoint', {
    above: 0,
    max: 1,
    nullWord: 'auto',
  }),
};

/** Fields of {@link GenerateOptions}, in the order of the help page. */
export const generateFields = {
  ...f.under('Network', {
    run: f.path('Run folder; its newest snapshot is used, or --snapshot best', { nullWord: 'none' }),
    snapshot: snapshotChoice,
    network: f.path(
      'Snapshot: .safetensors, official .pkl, an address, hf:owner/repository/file, or a network that comes along, such as avatars-32',
      {
        nullWord: 'none',
      },
    ),
    autoencoder: f.path('Folder of the autoencoder, for a network that was trained on latents', {
      nullWord: 'recorded',
    }),
    ema: f.emaLength('Average of this relative length, of a run that was trained with --power-ema'),
  }),
  ...f.under('What to generate', {
    seeds: f.seeds('Seeds, one image each', { default: Array.from({ length: 64 }, (_, i) => i) }),
    count: f.int('Number of images: seeds 0 to count − 1', {
      unit: 'images',
      min: 1,
      max: 10_000_000,
      nullWord: 'auto',
    }),
    class: f.classOf('Class of all images; by default one of the classes of the training images per seed', {
      nullWord: 'random',
    }),
    label: f.numbers(
      'Label of all images, for networks trained on label vectors; by default drawn per seed',
      {
        nullWord: 'random',
        example: '0.3,103',
      },
    ),
    imageSize: f.size(
      'Side, or width and height, of the generated window; larger than the training images extrapolates',
      { unit: 'px', min: 1, max: 16_384, nullWord: 'auto' },
    ),
    xStart: f.int('Left edge of the window', { unit: 'px', min: -16_384, max: 16_384, default: 0 }),
    yStart: f.int('Top edge of the window', { unit: 'px', min: -16_384, max: 16_384, default: 0 }),
    maskPos: f.boolean(
      'Sample without coordinates; only for networks without them, where it changes nothing',
      { default: false },
    ),
  }),
  ...f.under('Guidance', {
    cfg: f.number('Guidance scale; 1 is none', { min: 0, nullWord: 'none' }),
    cfgInterval: f.numberPair('Guidance only at noise levels above the first and up to the second', {
      min: 0,
      nullWord: 'all',
      example: '0.28,2.9',
    }),
    guide: f.path(
      'A smaller or less trained network that --cfg leads away from, as for --network, or a run folder; auto: an early snapshot of --run; without it, away from no class',
      { nullWord: 'none' },
    ),
  }),
  ...f.under('Sampler', {
    sampler: f.choice(
      'Sampler: edm (Heun); generalised (the ablations of EDM); dpmpp-2m or dpmpp-2m-sde (DPM-Solver++); auto: as recorded with the network, else edm',
      SAMPLERS,
      { nullWord: 'auto' },
    ),
    steps: f.int('Sampler steps; auto: as recorded for this sampler with the network, else 18', {
      unit: 'steps',
      min: 1,
      max: 100_000,
      nullWord: 'auto',
      aliases: [{ name: 'num-steps' }],
    }),
    sigmaMin: f.number('Lowest noise level; auto: 0.002, or that of --discretization', {
      above: 0,
      nullWord: 'auto',
    }),
    sigmaMax: f.number('Highest noise level; auto: 80, or that of --discretization', {
      above: 0,
      nullWord: 'auto',
    }),
    rho: f.number('Exponent of the noise-level schedule', { above: 0, default: EDM_DEFAULTS.rho }),
    sChurn: f.number(
      'Stochasticity: noise added per sampling; 0 is deterministic; auto: as recorded for this sampler with the network, else 0',
      { min: 0, nullWord: 'auto' },
    ),
    sMin: f.number('Noise is added only above this level', { min: 0, default: 0 }),
    sMax: f.number('Noise is added only below this level', { min: 0, nullWord: 'inf' }),
    sNoise: f.number('Factor on the added noise', { min: 0, default: 1 }),
    ...generalisedFields,
    noise: f.choice(
      'Random numbers: torch, or portable: the same as in browsers, so that a seed gives the same image there',
      NOISE_SOURCES,
      { default: 'torch' },
    ),
    stateDtype: f.choice(
      'Precision of the sampler state; that of the network is --precision',
      ['float64', 'float32'],
      { default: 'float64' },
    ),
  }),
  ...f.under('Output', {
    out: f.path('Folder for one PNG per seed; without it and --grid, generated/ in the run, or here', {
      nullWord: 'none',
      aliases: [{ name: 'outdir' }],
    }),
    grid: f.path('Also write all images as one sheet, to this PNG file', { nullWord: 'none' }),
    subdirs: f.boolean('One sub-folder per 1000 seeds', { default: false }),
  }),
  ...f.under('Machine', {
    batch: f.int('Images at a time', { unit: 'images', min: 1, max: 1_000_000, default: 32 }),
    device: f.device(),
    precision: f.choice(
      'Precision of the network body; auto: bf16 where the hardware is faster in it, else fp32',
      PRECISION_CHOICES,
      { default: 'fp32' },
    ),
    threads: f.threads(),
  }),
};

/** Resolved options of `generate`; every key has its value (null = not set). */
export type GenerateOptions = f.Values<typeof generateFields>;

/** What a user writes: any subset of the keys. */
export type GenerateOptionsInput = Partial<GenerateOptions>;

/** EDM's sampler defaults, and the official generator's seeds 0-63. */
export const generateDefaults = defaultsOf(generateFields) as GenerateOptions;

/**
 * Resolves and checks the options of `generate`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveGenerateOptions(sources: OptionSources): GenerateOptions {
  const given = readSources(generateFields, sources);
  const options = withDefaults(generateFields, given);

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
  if (options.class !== null && options.label !== null)
    throw usageError('BAD_OPTION', '--class and --label exclude each other; give one of them');
  chooseSampler(options, given);
  checkGuidance(options);
  // Without --out, single images go beside the network; with only --grid, none are written.
  if (options.out === null && options.grid === null) {
    options.out = options.run === null ? 'generated' : join(options.run, 'generated');
  }
  return options;
}

function chooseSampler(options: GenerateOptions, given: GenerateOptionsInput): void {
  const generalised = Object.keys(generalisedFields) as (keyof typeof generalisedFields)[];
  const special = generalised.find((key) => options[key] !== null);
  if (special && (given.sampler ?? null) === null) options.sampler = 'generalised';
  if (special && options.sampler !== 'generalised') {
    throw usageError(
      'BAD_OPTION',
      `--${special} belongs to --sampler generalised, not ${options.sampler}; leave one of them out`,
    );
  }
  if (options.sChurn !== null && options.sChurn > 0 && options.sampler && !takesChurn(options.sampler)) {
    throw usageError(
      'BAD_OPTION',
      `--s-churn belongs to the edm and generalised samplers; leave it out, or use --sampler dpmpp-2m-sde for fresh noise`,
    );
  }
  const isEdm = (options.discretization ?? 'edm') === 'edm';
  const sigmaMin = options.sigmaMin ?? (isEdm ? EDM_DEFAULTS.sigmaMin : 0);
  const sigmaMax = options.sigmaMax ?? (isEdm ? EDM_DEFAULTS.sigmaMax : Number.POSITIVE_INFINITY);
  if (sigmaMin >= sigmaMax) {
    throw usageError('BAD_OPTION', `--sigma-min ${sigmaMin} must be below --sigma-max ${sigmaMax}`);
  }
}

function checkGuidance({ cfg, cfgInterval, guide, run }: GenerateOptions): void {
  const dependent = guide !== null ? '--guide' : cfgInterval !== null ? '--cfg-interval' : null;
  if (cfg === null && dependent !== null) {
    throw usageError('BAD_OPTION', `${dependent} needs a guidance scale; add --cfg, such as --cfg 2`);
  }
  if (guide === 'auto' && run === null) {
    throw usageError(
      'BAD_OPTION',
      '--guide auto takes an early snapshot of a run; name the run with --run, or the snapshot with --guide',
    );
  }
  if (cfgInterval !== null && cfgInterval[0] >= cfgInterval[1]) {
    throw usageError(
      'BAD_OPTION',
      `--cfg-interval ${cfgInterval}: the first noise level must be below the second`,
    );
  }
}
