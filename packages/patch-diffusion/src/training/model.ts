/** From the options and the data of a run to its network, patch sizes and loss. */
import type { PatchSide } from '../config/fields.js';
import type { TrainOptions } from '../config/train-options.js';
import type { LatentInfo } from '../data/types.js';
import { type AugmentSpec, augmentLabelDim, trainingAugment } from '../diffusion/augmentation/spec.js';
import type { LossSpec } from '../diffusion/losses.js';
import { DEFAULT_SIGMA_DATA } from '../diffusion/noise-levels.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { ARCHITECTURES } from '../networks/architectures.js';
import type { NetworkSpec } from '../networks/index.js';
import { type Extent, POSITION_CHANNELS } from '../patches/extent.js';
import {
  customPatchSizes,
  defaultPatchSizes,
  type PatchSchedule,
  type PatchSize,
} from '../patches/schedule.js';

/** The shape of a data set, as far as the model depends on it. */
export interface DataShape extends Extent {
  /** 1 (grey), 3 (RGB), or those of the latents. */
  readonly channels: number;
  /** Number of classes; 0 for unconditional training. */
  readonly labelDim: number;
  /** Null for images. */
  readonly latents: LatentInfo | null;
  /** Measured standard deviation, where there is one. */
  readonly std: number | null;
}

/**
 * The denoiser of a run.
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'tiny' } });
 * const photos = await openImages('photos.zip');
 * const denoiser = createDenoiser(precondSpec(options, photos));
 * await photos.close();
 * ```
 */
export function precondSpec(options: TrainOptions, data: DataShape): PrecondSpec {
  const augment = augmentSpec(options);
  const network = {
    ...ARCHITECTURES[options.arch],
    imgResolution: Math.max(data.height, data.width),
    inChannels: data.channels + (options.precond === 'pedm' ? POSITION_CHANNELS : 0),
    outChannels: data.channels,
    labelDim: data.labelDim,
    modelChannels: options.modelChannels,
    channelMult: options.channelMult,
    numBlocks: options.numBlocks,
    attnResolutions: options.attnResolutions,
    dropout: options.dropout,
    labelDropout: options.labelDropout,
    ...(options.implicitMlp ? { implicitMlp: true } : {}),
    ...(augment ? { augmentDim: augmentLabelDim(augment) } : {}),
  } satisfies NetworkSpec;
  const isSquare = data.height === data.width;
  return {
    type: options.precond,
    network,
    ...(isSquare ? {} : { image: { height: data.height, width: data.width } }),
    ...sigmaDataSpec(options, data),
  };
}

/** σ_data, where the preconditioning has one and it is not EDM's. */
function sigmaDataSpec(options: TrainOptions, { std }: DataShape): { readonly sigmaData?: number } {
  const sigmaData = options.sigmaData ?? std ?? DEFAULT_SIGMA_DATA;
  const applies = options.precond === 'pedm' || options.precond === 'edm';
  return applies && sigmaData !== DEFAULT_SIGMA_DATA ? { sigmaData } : {};
}

/**
 * The loss that belongs to the preconditioning.
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'tiny' } });
 * const photos = await openImages('photos.zip');
 * const loss = lossSpec(options, photos);
 * await photos.close();
 * ```
 */
export function lossSpec(options: TrainOptions, data: DataShape): LossSpec {
  const { precond } = options;
  if (precond === 'vp' || precond === 've') return { type: precond };
  return { type: 'edm', pMean: options.pMean, pStd: options.pStd, ...sigmaDataSpec(options, data) };
}

/** Weights of layers inside the blocks of a network: Muon's. First and last layer and the embeddings are Adam's. */
export function isBlockWeight(name: string): boolean {
  return /\.(conv0|conv1|skip|affine|qkv|proj)\.weight$/.test(name);
}

/** The augmentation pipeline of a run, or null. */
export function augmentSpec({ augment }: TrainOptions): AugmentSpec | null {
  return augment > 0 ? trainingAugment(augment) : null;
}

/**
 * The patch sizes of a run with their probabilities and batch multipliers.
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'tiny' } });
 * const sizes = patchSizes(options, { height: 32, width: 32, latents: null });
 * ```
 */
export function patchSizes(options: TrainOptions, image: Extent & Pick<DataShape, 'latents'>): PatchSize[] {
  const factor = 2 ** (options.channelMult.length - 1);
  if (!options.patchSizes) return defaultPatchSizes(image, options.realP, factor, image.latents !== null);
  return customPatchSizes(image, withProbabilities(options.patchSizes, options.realP));
}

/**
 * Where none are given, the largest side has probability p, and the others share 1 − p as 2 : 3 : 4 … from small to
 * large; with two others, the paper's 2 : 3.
 */
function withProbabilities(patchSizes: readonly PatchSide[], realP: number): Map<number, number> {
  const sorted = [...patchSizes].sort((a, b) => a.sidePx - b.sidePx);
  const smaller = sorted.slice(0, -1);
  const total = smaller.reduce((sum, _, k) => sum + k + 2, 0);
  return new Map(
    sorted.map(({ sidePx, probability }, k) => {
      const largest = smaller.length ? realP : 1;
      const share = k === smaller.length ? largest : ((1 - realP) * (k + 2)) / total;
      return [sidePx, probability ?? share];
    }),
  );
}

/**
 * The patch schedule of a run.
 * @example
 * ```ts
 * const options = resolveTrainOptions({ call: { data: 'photos.zip', preset: 'tiny' } });
 * const sizes = defaultPatchSizes({ height: 32, width: 32 }, options.realP, 4);
 * const { name } = patchSchedule(options, sizes);
 * ```
 */
export function patchSchedule(options: TrainOptions, sizes: readonly PatchSize[]): PatchSchedule {
  const { schedule: name, realPFrom: from, realPTo: to, annealing: shape, annealingShare: over } = options;
  return name === 'annealed' ? { name, sizes, annealing: { from, to, shape, over } } : { name, sizes };
}
