/**
 * Puts training options together: preset, then config file, then flags (later wins), and checks what no single
 * option can tell. Checks that need the images are in {@link validateAgainstData}.
 */

import { randomInt } from 'node:crypto';
import { usageError } from '../common/errors.js';
import type { DataSet } from '../data/types.js';
import { takesChurn } from '../diffusion/samplers/index.js';
import { ARCHITECTURES, networkLevels } from '../networks/architectures.js';
import { widthProblem } from '../networks/levels.js';
import { type Extent, extentName } from '../patches/extent.js';
import { checkFeatures } from './evaluate-options.js';
import { type PatchSide, toExtent } from './fields.js';
import { getPreset, isPublished } from './presets.js';
import { kebab, type OptionSources, readSources, readValues, withDefaults } from './read-values.js';
import { DEFAULT_PRESET, type TrainOptions, type TrainOptionsInput, trainFields } from './train-options.js';

export interface TrainSources extends OptionSources {
  /** Options of the run that is being resumed, and where they are recorded; they stand in for the preset. */
  readonly base?: OptionSources['file'];
}

/**
 * Resolves and checks the options of a training run.
 *
 * @returns every option with its value; resolving the result again gives the same
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'small' } });
 * console.log(options.modelChannels, options.realP);
 * ```
 */
export function resolveTrainOptions({ base, ...sources }: TrainSources): TrainOptions {
  const given = readSources(trainFields, sources);
  const before = base && asRecorded(readValues(trainFields, base.values, { file: base.name }));
  const preset = given.preset ?? before?.preset ?? DEFAULT_PRESET;
  const { values } = getPreset(preset);
  // The run's own --transfer stays on record; together with --resume, another one would be ignored.
  if (isGiven(given.resume) && isGiven(given.transfer)) {
    throw usageError('BAD_OPTION', '--resume and --transfer exclude each other; give one of them');
  }
  // The preset first: an earlier version may have recorded fewer options.
  const merged: TrainOptionsInput = { ...values, ...before, ...given, preset };
  if (merged.schedule === 'annealed' && asksForShares(given)) merged.schedule = 'stratified';
  // A preset's own limit gives way to a batch that it does not divide.
  if (given.batchGpu === undefined && typeof merged.batchGpu === 'number')
    merged.batchGpu = largestDivisor(merged.batch ?? 1, merged.batchGpu);
  if (merged.data === undefined) {
    throw usageError(
      'MISSING_DATA',
      'no images given; add --data FOLDER (or a zip), or "data" in the config',
    );
  }
  if (!before && averagesAtOnce(merged)) merged.emaRampupRatio = given.emaRampupRatio ?? null;
  if (merged.objective === 'ect') Object.assign(merged, consistencyDefaults(given, before));
  if (merged.precond !== 'pedm') Object.assign(merged, wholeImages(merged.precond, given));
  // Without it gradients underflow in float16 (the official trainer leaves it to --ls).
  if (merged.precision === 'fp16' && given.lossScaling === undefined && merged.lossScaling === 1)
    merged.lossScaling = 'dynamic';
  // Only edm has churn.
  if (given.sampler === undefined && (merged.sampleChurn ?? 0) > 0) merged.sampler = 'edm';
  merged.seed ??= randomInt(2 ** 31 - 1);
  merged.resolution = normalSize(merged.resolution ?? null);
  const options = withDefaults(trainFields, merged);
  crossCheck(options);
  if (before !== undefined) checkResumeOptions({ ...values, ...before }, options);
  return options;
}

/** Shares of patch sizes that are given, without a schedule, are shares that stay. */
const asksForShares = ({ schedule, realP, patchSizes }: TrainOptionsInput): boolean =>
  schedule === undefined &&
  (realP !== undefined || (patchSizes ?? []).some(({ probability }) => probability !== null));

/**
 * Whether the average of a run that begins with trained weights has its full length from the first image on, as in the
 * published trainer. In the short runs of our presets it would hold on to the weights that the run began with.
 */
const averagesAtOnce = ({ preset, transfer, objective }: TrainOptionsInput): boolean =>
  isGiven(transfer) && (isPublished(preset ?? DEFAULT_PRESET) || objective === 'ect');

/** The options of a run, with what runs of earlier versions did that recorded no such options. */
function asRecorded(recorded: TrainOptionsInput): TrainOptionsInput {
  const before = { ...EARLIER, ...recorded };
  // Runs of before this option were averaged at once after any transfer.
  const isEarlier = recorded.immiscible === undefined;
  return isEarlier && isGiven(recorded.transfer) ? { ...before, emaRampupRatio: null } : before;
}

const EARLIER = { sampler: 'edm', optimizer: 'adam', lrCooldown: 0 } as const;

const isGiven = (value: unknown): boolean => value !== undefined && value !== null;

/** Only Patch-EDM has coordinates; the others train on whole images. */
function wholeImages(precond: unknown, given: TrainOptionsInput): TrainOptionsInput {
  const asked = [
    given.realP !== undefined && given.realP !== 1 && `--real-p ${given.realP}`,
    given.patchSizes && '--patch-sizes',
    given.schedule && given.schedule !== 'stochastic' && `--schedule ${given.schedule}`,
    given.sizesByNoise && '--sizes-by-noise',
  ].find(Boolean);
  if (asked) {
    throw usageError(
      'BAD_OPTION',
      `${asked}: --precond ${precond} trains on whole images; leave it out, or use --precond pedm`,
    );
  }
  return { realP: 1, patchSizes: null, schedule: 'stochastic', sizesByNoise: false };
}

/** What tuning by ECT has in place of a preset's values: Adam with a small learning rate, and samples in two steps. */
function consistencyDefaults(
  given: TrainOptionsInput,
  before: TrainOptionsInput | undefined,
): TrainOptionsInput {
  if (before) return {};
  const own = { optimizer: 'adam', lr: 1e-4, sampler: 'ect', sampleSteps: 2, sampleChurn: 0 } as const;
  const isOpen = ([key]: [string, unknown]) => given[key as keyof TrainOptionsInput] === undefined;
  return Object.fromEntries(Object.entries(own).filter(isOpen));
}

function checkConsistency(
  { precond, transfer, resume, immiscible, keepBest }: TrainOptions,
  byLosses: string | false | undefined,
): void {
  const what = '--objective ect';
  if (precond !== 'pedm' && precond !== 'edm')
    throw usageError('BAD_OPTION', `${what} is made for --precond pedm and edm, not ${precond}`);
  if (byLosses)
    throw usageError('BAD_OPTION', `${byLosses}: ${what} has noise levels of its own; leave it out`);
  if (immiscible !== null && immiscible > 1)
    throw usageError('BAD_OPTION', `--immiscible ${immiscible} is for --objective denoising; leave it out`);
  if (keepBest && resume === null)
    throw usageError(
      'BAD_OPTION',
      `--keep-best: the held-out loss is that of a denoiser and does not judge ${what}; leave it out`,
    );
  if (transfer === null && resume === null)
    throw usageError('BAD_OPTION', `${what} tunes a trained network; add --transfer RUN`);
}

function crossCheck(o: TrainOptions): void {
  if (o.batchGpu !== null && o.batch % o.batchGpu !== 0) {
    const fits = largestDivisor(o.batch, o.batchGpu);
    throw usageError(
      'BAD_BATCH',
      `--batch-gpu ${o.batchGpu} does not divide --batch ${o.batch}; use --batch-gpu ${fits}`,
    );
  }
  checkPatchSizes(o.patchSizes ?? []);
  if (o.sizesByNoise && o.schedule === 'progressive')
    throw usageError(
      'BAD_OPTION',
      '--sizes-by-noise: --schedule progressive has one patch size at a time; use another schedule, or leave it out',
    );
  const byLosses = [
    o.sigmaSampling === 'info' && '--sigma-sampling info',
    o.lossWeights === 'even' && '--loss-weights even',
    o.sizesByNoise && '--sizes-by-noise',
  ].find(Boolean);
  if (o.objective === 'ect') checkConsistency(o, byLosses);
  if (byLosses && o.precond !== 'pedm' && o.precond !== 'edm')
    throw usageError(
      'BAD_OPTION',
      `${byLosses}: --precond ${o.precond} has noise levels of its own; leave it out`,
    );
  if (o.sampleChurn > 0 && !takesChurn(o.sampler))
    throw usageError(
      'BAD_OPTION',
      `--sample-churn ${o.sampleChurn} belongs to --sampler edm, not ${o.sampler}; use --sample-churn 0`,
    );
  if (o.implicitMlp && o.arch === 'adm') {
    throw usageError(
      'BAD_OPTION',
      '--implicit-mlp is not made for --arch adm; use ddpmpp or ncsnpp, or leave it out',
    );
  }
  if (o.labelDropout > 0 && o.cond === false) {
    throw usageError('BAD_OPTION', '--label-dropout needs class labels; add --cond');
  }
  if (o.keepBest && (o.keep === null || o.holdout === 0)) {
    const missing = o.keep === null ? '--keep N, which removes the others' : '--holdout N, which tells it';
    throw usageError('BAD_OPTION', `--keep-best needs ${missing}; add it, or leave --keep-best out`);
  }
  checkEvaluation(o);
  // Where attention lies depends on the images.
  checkWidths({ ...o, attnResolutions: [] }, 0);
  if (o.resolution !== null) {
    const { height, width } = toExtent(o.resolution);
    checkSides(o, height, width);
  }
}

function checkEvaluation(o: TrainOptions): void {
  const dependent = [
    o.evalMetrics !== null && '--eval-metrics',
    o.evalFeatures !== null && '--eval-features',
    o.evalInceptionWeights !== null && '--eval-inception-weights',
    o.stopOnMemorising && '--stop-on-memorising',
  ].find((option) => option !== false);
  if (o.evalTicks === null) {
    if (dependent === undefined) return;
    throw usageError('BAD_OPTION', `${dependent} needs --eval-ticks N; add it, or leave ${dependent} out`);
  }
  if (o.stopOnMemorising && o.holdout === 0) {
    throw usageError(
      'BAD_OPTION',
      '--stop-on-memorising needs images to compare with; add --holdout N, or leave it out',
    );
  }
  const metrics = o.evalMetrics ?? ['loss'];
  if (o.stopOnMemorising && !metrics.some((name) => name === 'loss' || name === 'memorisation')) {
    throw usageError(
      'BAD_OPTION',
      '--stop-on-memorising looks at loss and memorisation; add one of them to --eval-metrics',
    );
  }
  checkFeatures(
    { features: o.evalFeatures, inceptionWeights: o.evalInceptionWeights, metrics, reference: null },
    'eval-',
  );
}

/**
 * Checks that several processes can share the batch.
 * @throws {UserError} (exit code 2) with batches that can be shared
 */
export function checkBatch({ batch, batchGpu }: TrainOptions, worldSize: number): void {
  const [name, size] = batchGpu === null ? ['--batch', batch] : ['--batch-gpu', batchGpu];
  if (size % worldSize === 0) return;
  const above = Math.ceil(size / worldSize) * worldSize;
  const near = above > worldSize ? `${above - worldSize} or ${above}` : String(above);
  throw usageError(
    'BAD_BATCH',
    `${name} ${size} cannot be divided among ${worldSize} processes; use ${name} ${near}, or another number of processes`,
  );
}

/** Group normalisation and attention heads divide the channels of each layer. */
function checkWidths(o: TrainOptions, sidePx: number): void {
  const { channelMult, numBlocks, attnResolutions } = o;
  const problemOf = (modelChannels: number) => {
    const network = { ...ARCHITECTURES[o.arch], imgResolution: sidePx, inChannels: 1, outChannels: 1 };
    const sizes = { modelChannels, channelMult, numBlocks, attnResolutions };
    // The sinusoidal embedding has a sine for each cosine.
    const isOdd = modelChannels % 2 !== 0;
    return isOdd ? `${modelChannels} is odd` : widthProblem(networkLevels({ ...network, ...sizes }));
  };
  const problem = problemOf(o.modelChannels);
  if (problem === null) return;
  const isGood = (channels: number) => channels >= 4 && problemOf(channels) === null;
  const steps = Array.from({ length: o.modelChannels }, (_, i) => i + 1);
  const near = [-1, 1].flatMap((sign) => {
    const step = steps.find((by) => isGood(o.modelChannels + sign * by));
    return step === undefined ? [] : [o.modelChannels + sign * step];
  });
  const remedy = near.length ? `use --model-channels ${near.join(' or ')}` : 'use other --channel-mult';
  throw usageError(
    'BAD_WIDTH',
    `--model-channels ${o.modelChannels} with --channel-mult ${channelMult.join(',')} does not fit --arch ${o.arch}: ${problem}; ${remedy}`,
  );
}

/** Each side once, and probabilities for all that sum to 1, or for none. */
function checkPatchSizes(sizes: readonly PatchSide[]): void {
  const problem = (what: string) => usageError('BAD_PATCHES', `--patch-sizes: ${what}`);
  if (new Set(sizes.map(({ sidePx }) => sidePx)).size !== sizes.length) {
    throw problem('a size is given twice; give each once');
  }
  const given = sizes.flatMap(({ probability }) => (probability === null ? [] : [probability]));
  if (given.length === 0) return;
  if (given.length < sizes.length) throw problem('give all sizes a probability, or none');
  const sum = given.reduce((a, b) => a + b, 0);
  if (Math.abs(sum - 1) > 1e-6)
    throw problem(`the probabilities sum to ${Number(sum.toFixed(6))}; they must sum to 1`);
}

/** 96x64 stays as it is, 64x64 is 64: one way to write a size, so that sizes can be compared. */
function normalSize(size: number | Extent | null): number | Extent | null {
  return size !== null && typeof size === 'object' && size.width === size.height ? size.width : size;
}

/** The largest divisor of `n` that is at most `limit`. */
function largestDivisor(n: number, limit: number): number {
  for (let d = Math.min(limit, n); d > 1; d--) if (n % d === 0) return d;
  return 1;
}

/**
 * Every side that the network sees must halve exactly at each of its levels but the last. Default patches are
 * rounded so that they do; given ones are checked. A patch side beyond the image means the whole image.
 */
function checkSides(o: TrainOptions, height: number, width: number): void {
  const divisor = 2 ** (o.channelMult.length - 1);
  const levels = `a network of ${o.channelMult.length} levels (--channel-mult ${o.channelMult.join(',')})`;
  const must = `sides must be divisible by ${divisor}`;
  if (height % divisor !== 0 || width % divisor !== 0) {
    const rounded = (round: (n: number) => number) => {
      const [w, h] = [width, height].map((side) => Math.max(16, divisor, round(side / divisor) * divisor));
      return extentName({ width: w!, height: h! });
    };
    const [down, up] = [rounded(Math.floor), rounded(Math.ceil)];
    const remedy = up === down ? up : `${down} or ${up}`;
    throw usageError(
      'BAD_RESOLUTION',
      `images of ${width}×${height} px do not fit ${levels}: ${must}; use --resolution ${remedy}, or fewer levels`,
    );
  }
  const bad = o.patchSizes?.find(
    ({ sidePx }) => sidePx % divisor !== 0 && sidePx < Math.max(height, width),
  )?.sidePx;
  if (bad !== undefined) {
    const near = Math.max(1, Math.round(bad / divisor)) * divisor;
    throw usageError(
      'BAD_PATCHES',
      `--patch-sizes: patches of ${bad} px do not fit ${levels}: ${must}; use ${near}, or fewer levels`,
    );
  }
}

/**
 * Checks options against the images: sides against the network's levels, labels against `cond`.
 *
 * @throws {UserError} (exit code 2) with the remedy
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'tiny' } });
 * const photos = await openImages('photos.zip');
 * validateAgainstData(options, photos);
 * await photos.close();
 * ```
 */
export function validateAgainstData(
  options: TrainOptions,
  data: Pick<DataSet, 'height' | 'width' | 'channels' | 'labelDim'>,
): void {
  checkSides(options, data.height, data.width);
  checkWidths(options, Math.max(data.height, data.width));
  if (options.channels !== null && options.channels !== data.channels) {
    throw usageError(
      'BAD_CHANNELS',
      `--channels ${options.channels}, but the images have ${data.channels}; leave the option out or prepare the data again`,
    );
  }
  if (options.cond === true && data.labelDim === 0) {
    throw usageError(
      'NO_LABELS',
      '--cond needs class labels, but the data has none; use one sub-folder per class, or leave --cond out',
    );
  }
}

/** Options that change the network, the data or the order of the images; a resumed run must keep them. */
const FIXED_ON_RESUME = [
  'preset',
  'resolution',
  'channels',
  'cond',
  'xflip',
  'maxImages',
  'order',
  'holdout',
  'arch',
  'precond',
  'modelChannels',
  'channelMult',
  'numBlocks',
  'attnResolutions',
  'dropout',
  'labelDropout',
  'implicitMlp',
  'augment',
  'sigmaData',
  'powerEma',
  'sigmaSampling',
  'sizesByNoise',
  'lossWeights',
  'stratify',
  'objective',
  'optimizer',
  'seed',
  'transfer',
] as const satisfies readonly (keyof TrainOptions)[];

/** @throws {UserError} (exit code 2) naming an option that a resumed run must keep, and does not */
function checkResumeOptions(before: TrainOptionsInput, now: TrainOptions): void {
  for (const key of FIXED_ON_RESUME) {
    if (JSON.stringify(before[key]) === JSON.stringify(now[key])) continue;
    const show = (value: unknown) => {
      if (value === null) return trainFields[key].nullWord ?? 'none';
      return key === 'resolution' ? extentName(toExtent(value as number | Extent)) : String(value);
    };
    throw usageError(
      'RESUME_MISMATCH',
      `--${kebab(key)} is fixed by the run (${show(before[key])}, not ${show(now[key])}); leave it out, or start a new run with --transfer`,
    );
  }
}
