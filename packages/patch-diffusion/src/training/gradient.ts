/**
 * Forward and backward of one micro-batch (Patch Diffusion, algorithm 1): cut patches, add noise, compute the denoising loss,
 * and add its gradient to the parameters'. Nothing here waits for a GPU.
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type Part, partOf } from '../common/random-part.js';
import type { RandomSource } from '../common/random-source.js';
import { type Trace, traced } from '../common/trace.js';
import { consistencyLoss } from '../diffusion/consistency-loss.js';
import type { Candidates } from '../diffusion/immiscible.js';
import {
  addNoise,
  type LossNorm,
  type LossSpec,
  lossFactor,
  lossOf,
  lossWeight,
  type NoisyBatch,
} from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { type Augment, makePatchBatch, type PatchBatch } from '../patches/batches.js';
import type { Extent } from '../patches/extent.js';
import type { PatchSource } from '../patches/patch-source.js';
import { factorsAt, lossesByLevel } from './loss-by-level.js';
import { LEVEL_BINS } from './noise-histogram.js';
import type { PassGraphs } from './pass-graphs.js';

/** `denoising`; or `ect`: Easy Consistency Tuning of a trained network to few sampling steps. */
export type Objective = 'denoising' | 'ect';

/** One forward and backward pass of an update. */
export interface MicroBatch {
  readonly patch: Extent;
  /** The images that patches are cut from, one each. */
  readonly indices: ArrayLike<number>;
  /** Share in the update's gradient. */
  readonly weight: number;
  readonly random: RandomSource;
  /** Draws the patches' positions; `random` by default. */
  readonly positionRandom?: RandomSource;
  /** ln σ at probabilities 0, 1/n, …, 1; null or absent: drawn as the loss says. */
  readonly quantiles?: Float32Array | null;
  /** Factors on the loss by bin of the noise level; null or absent: 1. The statistics are of the loss without them. */
  readonly factors?: Float32Array | null;
  /** Of which the noise is chosen (immiscible diffusion); null or absent: noise and images are independent. */
  readonly candidates?: Candidates | null;
  /** Share of the run that is done, 0 … 1, for the objective `ect`; 0 by default. */
  readonly progress?: number;
  /** The images that are this rank's, where several ranks share the work; it may be empty. */
  readonly part?: Part;
}

/** Sums gradients over ranks. */
export interface Reducer {
  /** Sets the gradients to zero. */
  zero(): void;
  /** The next backward is the last one. */
  arm(): void;
  /** Waits for the sums. */
  finish(): Promise<void>;
}

export interface GradientOptions {
  /** Its items must be ready. */
  readonly source: PatchSource;
  readonly device: Device;
  readonly lossNorm: LossNorm;
  readonly loss: LossSpec;
  /** What is learnt: `denoising` by default. */
  readonly objective?: Objective;
  readonly augment: Augment | null;
  /** Whether patches are augmented, as published, or whole images before patches are cut. */
  readonly augmentAt: 'patch' | 'image';
  /** Whether losses are also counted by noise level. */
  readonly countLevels?: boolean;
  /** Where several ranks share the work. */
  readonly reducer?: Reducer | null;
  /** Repeats passes as graphs of a GPU; only for one rank and the objective `denoising`. */
  readonly graphs?: PassGraphs | null;
  readonly trace?: Trace | null;
}

/**
 * Adds the gradient of a micro-batch to the parameters'.
 * @param scale on the loss
 * @param isLast whether it is the update's last one on this rank
 * @returns sum and sum of squares of the loss, then counts by level where they are asked for, float32 [2 + 2 · bins]
 */
export function accumulateGradient(
  denoiser: Denoiser,
  microBatch: MicroBatch,
  scale: number,
  { isLast, ...options }: GradientOptions & { readonly isLast: boolean },
): Tensor {
  const { patch, indices, weight, part } = microBatch;
  const { source, device, lossNorm, reducer } = options;
  return torch.scope(() => {
    if (part && part.begin === part.end) {
      // Without a share here, this rank still makes the draws that all make.
      const first = { ...microBatch, part: { begin: 0, end: 1 } };
      torch.noGrad(() =>
        torch.scope(() => void pass(denoiser, first, 0, { ...options, isForwardOnly: true })),
      );
      return torch.zeros([options.countLevels ? 2 + 2 * LEVEL_BINS.count : 2], { device });
    }
    const factor = scale * weight * lossFactor(lossNorm, patch, source, indices.length);
    return pass(denoiser, microBatch, factor, { ...options, beforeBackward: () => isLast && reducer?.arm() });
  });
}

interface PassOptions extends GradientOptions {
  readonly isForwardOnly?: boolean;
  readonly beforeBackward?: () => void;
}

/** The pass of a micro-batch, or of this rank's part of it. @param factor on the sum of the losses */
function pass(denoiser: Denoiser, microBatch: MicroBatch, factor: number, options: PassOptions): Tensor {
  const { device, loss: spec, augment, augmentAt, objective, graphs, trace } = options;
  const { indices, part, quantiles, candidates, factors = null, progress = 0 } = microBatch;
  const own = (from: RandomSource) => (part ? partOf(from, indices.length, part) : from);
  const draws = own(microBatch.random);
  const batch = traced(trace, 'data', () => cutPatches(microBatch, draws, options));
  const augmentPatches = augmentAt === 'image' ? null : augment;
  if (objective === 'ect') {
    const { loss, sigma } = traced(trace, 'forward', () =>
      consistencyLoss(denoiser, batch, draws, { augment: augmentPatches, progress }),
    );
    return backward(loss, { sigma, factor, factors: factors && factorsAt(factors, sigma) }, options);
  }
  const noisy = addNoise(batch, draws, {
    ...{ spec, augment: augmentPatches, quantiles },
    candidates: candidates && { ...candidates, random: own(candidates.random) },
  });
  const learn = ({ factor, factors, ...noisy }: PassInputs): Tensor => {
    const loss = traced(trace, 'forward', () => lossOf(denoiser, noisy, draws, spec));
    return backward(loss, { sigma: noisy.sigma, factor, factors }, options);
  };
  const byLevel = factors && factorsAt(factors, noisy.sigma);
  if (!graphs) return learn({ ...noisy, factor, factors: byLevel });
  const scalar = torch.tensor(Float32Array.of(factor), { shape: [], device });
  return graphs.run({ ...noisy, factor: scalar, factors: byLevel }, learn);
}

/** The patches of a micro-batch, or of this rank's part of them. */
function cutPatches(
  { patch, indices, part, positionRandom, candidates }: MicroBatch,
  draws: RandomSource,
  { source, device, augment, augmentAt }: GradientOptions,
): PatchBatch {
  const images = part ? Array.from(indices).slice(part.begin, part.end) : indices;
  return makePatchBatch(source, images, patch, {
    ...{ random: draws, device },
    positionRandom: positionRandom && (part ? partOf(positionRandom, indices.length, part) : positionRandom),
    augmentImages: augmentAt === 'image' ? augment : null,
    withEnergy: Boolean(candidates),
  });
}

/** Batch and factors of a pass; those of a graph are all tensors. */
type PassInputs = NoisyBatch & Factors;

interface Factors {
  /** On the sum of the losses; a number, or float32 []. */
  readonly factor: number | Tensor;
  /** On the losses of each patch, [N, 1, 1, 1]; null: 1. */
  readonly factors: Tensor | null;
}

/** @param loss [N, C, P, P] */
function backward(
  loss: Tensor,
  { sigma, factor, factors }: Factors & { readonly sigma: Tensor },
  { loss: spec, countLevels, trace, isForwardOnly, beforeBackward }: PassOptions,
): Tensor {
  const sum = loss.sum();
  if (!isForwardOnly) {
    const weighed = factors ? loss.mul(factors).sum() : sum;
    const scaled = weighed.mul(factor);
    beforeBackward?.();
    traced(trace, 'backward', () => scaled.backward());
  }
  const sums = torch.stack([sum.detach(), loss.detach().square().sum()]);
  if (!countLevels) return sums;
  return torch.cat([sums, lossesByLevel(loss.detach().div(lossWeight(spec, sigma)), sigma)]);
}
