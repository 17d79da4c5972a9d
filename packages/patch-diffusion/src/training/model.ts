/** From the options and the data of a run to its network, patch sizes and loss. */
import type { TrainOptions } from '../config/train-options.js';
import type { LossSpec } from '../diffusion/losses.js';
import type { PrecondSpec } from '../diffusion/preconditioning.js';
import { ARCHITECTURES, type NetworkSpec } from '../networks/index.js';
import type { Extent } from '../patches/extent.js';
import { customPatchSizes, defaultPatchSizes, type PatchSize } from '../patches/schedule.js';

/** The shape of a data set, as far as the model depends on it. */
export interface DataShape extends Extent {
  /** 1 (grey) or 3 (RGB). */
  readonly channels: number;
  /** Number of classes; 0 for unconditional training. */
  readonly labelDim: number;
}

/** Coordinate channels: x and y. */
const POSITION_CHANNELS = 2;

/** The denoiser of a run. */
export function describeDenoiser(options: TrainOptions, data: DataShape): PrecondSpec {
  const network = {
    ...ARCHITECTURES[options.arch],
    imgResolution: Math.max(data.height, data.width),
    inChannels: data.channels + POSITION_CHANNELS,
    outChannels: data.channels,
    labelDim: data.labelDim,
    modelChannels: options.modelChannels,
    channelMult: options.channelMult,
    numBlocks: options.numBlocks,
    attnResolutions: options.attnResolutions,
    dropout: options.dropout,
    labelDropout: options.labelDropout,
    ...(options.implicitMlp ? { implicitMlp: true } : {}),
  } satisfies NetworkSpec;
  const isSquare = data.height === data.width;
  return { type: 'pedm', network, ...(isSquare ? {} : { image: { height: data.height, width: data.width } }) };
}

/** The loss that belongs to the preconditioning. */
export function describeLoss(): LossSpec {
  return { type: 'edm' };
}

/** The patch sizes of a run with their probabilities and batch multipliers. */
export function describePatches(options: TrainOptions, image: Extent): PatchSize[] {
  const factor = 2 ** (options.channelMult.length - 1);
  if (!options.patchSizes) return defaultPatchSizes(image, options.realP, factor);
  const sides = [...options.patchSizes].sort((a, b) => a - b);
  return customPatchSizes(image, shareProbabilities(sides, options.realP));
}

/** The largest side has probability p; the k-th of the others has a share of 1 − p in proportion to k + 1, as 2:3. */
function shareProbabilities(sides: readonly number[], realP: number): Map<number, number> {
  const smaller = sides.slice(0, -1);
  const total = smaller.reduce((sum, _, k) => sum + k + 2, 0);
  const shares = smaller.map((side, k): [number, number] => [side, ((1 - realP) * (k + 2)) / total]);
  return new Map([...shares, [sides[sides.length - 1], smaller.length ? realP : 1]]);
}
