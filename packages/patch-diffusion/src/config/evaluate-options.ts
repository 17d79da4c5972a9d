/** Options of `evaluate`: what is judged, by which images, with which metrics. */

import { usageError } from '../common/errors.js';
import { PRECISIONS } from '../diffusion/precision.js';
import * as f from './fields.js';
import { type OptionSources, readSources, withDefaults } from './read-values.js';
import { snapshotChoice } from './snapshot-choice.js';

/** Groups of figures that are measured together. */
export const METRICS = ['loss', 'swd', 'memorisation', 'avatars', 'fd', 'kid', 'prdc', 'fld'] as const;
export type Metric = (typeof METRICS)[number];

/** Metrics that compare features. */
const FEATURE_METRICS: readonly Metric[] = ['fd', 'kid', 'prdc', 'fld'];

/** Which features are compared. */
export const featureFields = {
  features: f.choice(
    'Features of images: classifier (a small one, trained on your labelled images and kept in the cache), or inception (that of FID, with --inception-weights)',
    ['classifier', 'inception'],
    { nullWord: 'none' },
  ),
  inceptionWeights: f.path(
    'Weights of the Inception of FID: pt_inception-2015-12-05-….pth, inception-2015-12-05.pkl or safetensors; a file, an address, or hf:owner/repository/file',
    { nullWord: 'none' },
  ),
};

/** Fields of {@link EvaluateOptions}, in the order of the help page. */
export const evaluateFields = {
  ...f.under('What to evaluate', {
    run: f.path('Run folder; its newest snapshot is used, or --snapshot best', { nullWord: 'none' }),
    snapshot: snapshotChoice,
    network: f.path(
      'Snapshot: .safetensors, official .pkl, an address, hf:owner/repository/file, or a network that comes along, such as avatars-32',
      {
        nullWord: 'none',
      },
    ),
    images: f.path('Folder, zip or idx file of images to evaluate in place of a model', { nullWord: 'none' }),
    ema: f.emaLength('Average of this relative length, of runs that were trained with --power-ema'),
    compare: f.list('Runs, snapshots or folders of images to set side by side (or as arguments)', {
      default: [],
    }),
  }),
  ...f.under('Real images', {
    data: f.path(
      'Images to compare with; auto: those that the run held out, else its training images. Training images among them are left out',
      { nullWord: 'auto' },
    ),
    trainData: f.path('The training images, where they are not recorded or no longer there', {
      nullWord: 'recorded',
    }),
    real: f.choice('Which real images samples are compared with', ['held-out', 'training'], {
      default: 'held-out',
    }),
  }),
  ...f.under('Metrics', {
    metrics: f.choices(
      'Figures: loss (held-out loss), swd (sliced Wasserstein), memorisation, avatars (parts of pixel-art faces); with features: fd (Fréchet distance), kid (kernel distance), prdc (precision, recall, density, coverage), fld (feature likelihood); auto: all that can be measured',
      METRICS,
      { nullWord: 'auto' },
    ),
    count: f.int('Number of samples or images', { unit: 'images', min: 2, max: 10_000_000, default: 1000 }),
    seeds: f.seeds('Seeds of the samples, in place of 0 to count − 1', { nullWord: 'auto' }),
    ...featureFields,
    reference: f.path(
      'Statistics (.npz with mu and sigma, of `stats` or published) to take the Fréchet distance to, in place of images',
      { nullWord: 'none' },
    ),
    lossImages: f.int('Images for the held-out loss at most', { unit: 'images', min: 2, default: 512 }),
  }),
  ...f.under('Sampler', {
    steps: f.int('Sampler steps; auto: as recorded with the network, else 18', {
      unit: 'steps',
      min: 1,
      max: 100_000,
      nullWord: 'auto',
    }),
    autoencoder: f.path('Folder of the autoencoder, for a network that was trained on latents', {
      nullWord: 'recorded',
    }),
  }),
  ...f.under('Output', {
    json: f.path('Also write all figures and curves to this JSON file', { nullWord: 'none' }),
    plots: f.path(
      'Also draw the curves to this PNG file, and the nearest training images beside it (…-nearest.png)',
      { nullWord: 'none' },
    ),
  }),
  ...f.under('Machine', {
    batch: f.int('Images at a time', { unit: 'images', min: 1, max: 1_000_000, default: 32 }),
    device: f.device(),
    precision: f.choice('Precision of the network body', PRECISIONS, { default: 'fp32' }),
    threads: f.threads(),
  }),
};

/** Resolved options of `evaluate`; every key has its value (null = not set). */
export type EvaluateOptions = f.Values<typeof evaluateFields>;

/** What a user writes: any subset of the keys. */
export type EvaluateOptionsInput = Partial<EvaluateOptions>;

/**
 * Resolves and checks the options of `evaluate`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolveEvaluateOptions(sources: OptionSources): EvaluateOptions {
  const given = readSources(evaluateFields, sources);
  const options = withDefaults(evaluateFields, given);
  const { run, network, images, compare } = options;
  const single = [run, network, images].filter((path) => path !== null);
  if (single.length + compare.length === 0) {
    throw usageError(
      'NOTHING_TO_EVALUATE',
      'say what to evaluate: --run RUN_FOLDER, --network SNAPSHOT, or --images FOLDER',
    );
  }
  if (single.length > 1) {
    throw usageError(
      'BAD_OPTION',
      '--run, --network and --images exclude each other; to set several side by side, give them as arguments',
    );
  }
  checkFeatures(options);
  if (options.seeds !== null) {
    if (given.count !== undefined)
      throw usageError('BAD_OPTION', '--count and --seeds exclude each other; give one of them');
    if (options.seeds.length < 2)
      throw usageError(
        'BAD_OPTION',
        `--seeds ${options.seeds}: a sample has at least 2 images; give more seeds`,
      );
    options.count = options.seeds.length;
  }
  return options;
}

/**
 * Settles which features there are.
 * @param prefix of the options' names
 * @throws UserError where the options contradict each other
 */
export function settleFeatures(
  options: Pick<EvaluateOptions, 'features' | 'inceptionWeights'>,
  prefix = '',
): void {
  const { features, inceptionWeights } = options;
  if (inceptionWeights !== null && features === 'classifier')
    throw usageError(
      'BAD_OPTION',
      `--${prefix}inception-weights belongs to --${prefix}features inception, not classifier; leave one of them out`,
    );
  if (features === 'inception' && inceptionWeights === null)
    throw usageError(
      'NO_WEIGHTS',
      `--${prefix}features inception needs the weights that FID is defined on; add --${prefix}inception-weights FILE (pt_inception-2015-12-05-….pth or inception-2015-12-05.pkl)`,
    );
  if (inceptionWeights !== null) options.features = 'inception';
}

/** @throws UserError (exit code 2) where metrics need features that are not there */
export function checkFeatures(
  options: Pick<EvaluateOptions, 'features' | 'inceptionWeights' | 'metrics' | 'reference'>,
  prefix = '',
): void {
  settleFeatures(options, prefix);
  const { features, metrics, reference } = options;
  const metric = metrics?.find((name) => FEATURE_METRICS.includes(name));
  const needing = metric ? `--${prefix}metrics ${metric}` : reference !== null ? '--reference' : null;
  if (needing !== null && features === null) {
    throw usageError(
      'NO_FEATURES',
      `${needing} needs features; add --${prefix}features classifier, or --${prefix}inception-weights FILE`,
    );
  }
  if (reference !== null && metrics !== null && !metrics.includes('fd'))
    throw usageError('BAD_OPTION', '--reference is for --metrics fd; add it, or leave --reference out');
}

/** The metrics of an evaluation, in the order in which they are measured. */
export function metricsOf({ metrics }: EvaluateOptions): Metric[] {
  return METRICS.filter((name) => metrics?.includes(name) ?? true);
}
