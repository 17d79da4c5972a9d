/**
 * One optimiser update (Karras et al. 2022, appendix F.2; Patch Diffusion, algorithm 1): for each micro-batch, cut
 * patches, compute the denoising loss and accumulate its gradient; then sanitise the gradient, and let Adam step and the
 * moving average follow.
 */
import type { Device, Optimizer, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type Part, partOf } from '../common/random-part.js';
import type { RandomSource } from '../common/random-source.js';
import { type Trace, traced } from '../common/trace.js';
import { consistencyLoss } from '../diffusion/consistency-loss.js';
import type { Candidates } from '../diffusion/immiscible.js';
import { type LossNorm, type LossSpec, lossAtLevels, lossFactor, lossWeight } from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { type Augment, makePatchBatch } from '../patches/batches.js';
import type { Extent } from '../patches/extent.js';
import type { PatchSource } from '../patches/patch-source.js';
import { type EmaOptions, emaBeta } from './ema.js';
import { factorsAt, lossesByLevel } from './loss-by-level.js';
import type { DynamicLossScale } from './loss-scale.js';
import { LEVEL_BINS, type NoiseHistogram } from './noise-histogram.js';
import { imagesByPixels, type PowerAverages } from './power-averages.js';

/** `denoising`; or `ect`: Easy Consistency Tuning of a trained network to few sampling steps. */
export type Objective = 'denoising' | 'ect';

/** What an update changes. */
export interface TrainingState {
  readonly denoiser: Denoiser;
  /** Moving average of the denoiser's weights. */
  readonly ema: Denoiser;
  readonly optimizer: Optimizer;
  /** Dynamic loss scaling; without it the loss has the constant factor of the options. */
  readonly lossScale?: DynamicLossScale | null;
  /** Averages of which one of any length can be made afterwards. */
  readonly powerAverages?: PowerAverages | null;
  /** Losses by noise level, where levels are drawn or weighed by them. */
  readonly noise?: NoiseHistogram | null;
  /** Images trained on so far, as the paper counts them: batch · mean multiplier per update. */
  nimg: number;
  /** Updates so far. */
  step: number;
}

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

/** What one update trains on. */
export interface Update {
  readonly microBatches: readonly MicroBatch[];
  /** Images that the update counts as: batch · expected multiplier. */
  readonly nimg: number;
  /** Share of the run that is done, 0 … 1, for the cooldown of the learning rate. */
  readonly progress?: number;
}

export interface StepOptions extends EmaOptions {
  /** Its items must be ready. */
  readonly source: PatchSource;
  readonly device: Device;
  readonly lr: number;
  readonly lrRampupKimg: number;
  /** Share of the run at its end over which the learning rate falls to 0; 0 by default. */
  readonly lrCooldown?: number;
  /** Constant factor on the loss, as published: it is not divided out of the gradients again. */
  readonly lossScaling: number;
  readonly lossNorm: LossNorm;
  readonly loss: LossSpec;
  /** What is learnt: `denoising` by default. */
  readonly objective?: Objective;
  readonly augment: Augment | null;
  /** Whether patches are augmented, as published, or whole images before patches are cut. */
  readonly augmentAt: 'patch' | 'image';
  /** Whether losses are also counted by noise level, see {@link MicroBatchLoss.levels}. */
  readonly countLevels?: boolean;
  /** Where several ranks share the work. */
  readonly reducer?: Reducer | null;
  readonly trace?: Trace | null;
}

/** The loss of a micro-batch. */
export interface MicroBatchLoss {
  readonly patch: Extent;
  /** Number of patches, those of all ranks. */
  readonly count: number;
  /** Pixels × channels × patches. */
  readonly elements: number;
  /** Sum over the elements (of this rank's part). */
  readonly sum: number;
  /** Sum of the squares of the elements (of this rank's part). */
  readonly sumOfSquares: number;
  /** Sums of unweighted mean losses of patches by noise level, then numbers of patches [2 · bins] (of this rank's part). */
  readonly levels?: readonly number[];
}

export interface StepResult {
  readonly lr: number;
  readonly emaBeta: number;
  readonly losses: readonly MicroBatchLoss[];
  /**
   * L2 norm of the accumulated gradient before sanitising; may be NaN or infinite. With a constant loss scaling it is
   * in scaled units.
   */
  readonly gradNorm: number;
  /** The gradient overflowed at this dynamic loss scale, which was lowered; the weights were left alone. */
  readonly skipped: boolean;
  /** Time spent waiting for the other ranks' gradients. */
  readonly waitMs: number;
}

/**
 * Learning rate at a point of the run: a linear ramp from 0 by images, a constant, and a linear cooldown to 0 over the
 * last share of the run.
 * @param nimg images seen
 * @param progress share of the run that is done, 0 … 1
 * @example
 * ```ts
 * const rising = learningRate({ lr: 2e-4, lrRampupKimg: 10_000 }, 5_000_000); // 1e-4
 * const falling = learningRate({ lr: 2e-4, lrRampupKimg: 0, lrCooldown: 0.2 }, 5_000_000, 0.9); // 1e-4
 * ```
 */
export function learningRate(
  { lr, lrRampupKimg, lrCooldown = 0 }: Pick<StepOptions, 'lr' | 'lrRampupKimg' | 'lrCooldown'>,
  nimg: number,
  progress = 0,
): number {
  const ramp = lrRampupKimg > 0 ? Math.min(nimg / (lrRampupKimg * 1000), 1) : 1;
  const cooldown = lrCooldown > 0 ? Math.min((1 - progress) / lrCooldown, 1) : 1;
  return lr * ramp * cooldown;
}

/**
 * Makes one update. The counters of `state` move on; no tensor outlives the call. Heartbeats and signals are handled
 * between micro-batches.
 * @example
 * ```ts
 * const photos = await openImages('photos.zip');
 * const indices = [0, 1, 2, 3];
 * await photos.ready(indices);
 * const make = () => createDenoiser({
 *   type: 'pedm',
 *   network: { type: 'SongUNet', imgResolution: 16, inChannels: 5, outChannels: 3, modelChannels: 8 },
 * });
 * const [denoiser, ema] = [make().train(), make().requiresGrad(false)];
 * const optimizer = new torch.Adam(denoiser.namedParameters(), { lr: 1e-3 });
 * const state = { denoiser, ema, optimizer, nimg: 0, step: 0 };
 * const patch = { height: 8, width: 8 };
 * const update = { microBatches: [{ patch, indices, weight: 1, random: new TorchRandom() }], nimg: 4 };
 * const { losses } = await trainStep(state, update, {
 *   ...{ source: photos, device: 'cpu', lr: 1e-3, lrRampupKimg: 0, emaHalflifeKimg: 500, emaRampupRatio: 0.05 },
 *   ...{ lossScaling: 1, lossNorm: 'mean', loss: { type: 'edm' }, augment: null, augmentAt: 'patch' },
 * });
 * await photos.close();
 * ```
 */
export async function trainStep(
  state: TrainingState,
  { microBatches, nimg, progress }: Update,
  options: StepOptions,
): Promise<StepResult> {
  const { denoiser, ema, optimizer, lossScale, powerAverages } = state;
  const { reducer, trace } = options;
  if (reducer) reducer.zero();
  else optimizer.zeroGrad();
  const scale = lossScale?.scale ?? options.lossScaling;
  const sums: Tensor[] = [];
  const last = microBatches.findLastIndex(({ part }) => !part || part.end > part.begin);
  for (const [i, microBatch] of microBatches.entries()) {
    if (sums.length) await new Promise(setImmediate);
    sums.push(accumulateGradient(denoiser, microBatch, scale, { ...options, isLast: i === last }));
  }
  const waitBegin = performance.now();
  if (reducer) await traced(trace, 'wait for reduction', () => reducer.finish());
  const waitMs = performance.now() - waitBegin;
  const losses = readLosses(microBatches, sums, options.source.channels);
  const endUpdate = trace?.begin('optimiser');
  const lr = learningRate(options, state.nimg, progress);
  const gradNorm = torch.sanitiseGradients(denoiser.parameters(), lossScale ? 1 / scale : 1);
  const skipped = Boolean(lossScale) && !Number.isFinite(gradNorm);
  lossScale?.update(!skipped);
  const beta = emaBeta(options, state.nimg, nimg);
  const following = [
    { averages: ema.parameters(), beta },
    ...(powerAverages?.advance(imagesByPixels(microBatches, options.source)) ?? []),
  ];
  if (skipped) for (const average of following) torch.moveAverages(average, denoiser.parameters());
  else optimizer.step(lr, following);
  state.nimg += Math.floor(nimg);
  state.step += 1;
  endUpdate?.();
  return { lr, emaBeta: beta, losses, gradNorm, skipped, waitMs };
}

/**
 * Forward and backward; the gradient is added to the parameters'. Does not wait for the device.
 * @returns sum and sum of squares of the loss, then counts by level where they are asked for, float32 [2 + 2 · bins]
 */
function accumulateGradient(
  denoiser: Denoiser,
  microBatch: MicroBatch,
  scale: number,
  options: StepOptions & { readonly isLast: boolean },
): Tensor {
  const { patch, indices, weight, factors, part } = microBatch;
  const { source, lossNorm, reducer, trace, isLast } = options;
  return torch.scope(() => {
    if (part && part.begin === part.end) {
      // Without a share here, this rank still makes the draws that all make.
      const first = { begin: 0, end: 1 };
      torch.noGrad(() =>
        torch.scope(() => void microBatchLoss(denoiser, { ...microBatch, part: first }, options)),
      );
      return torch.zeros([options.countLevels ? 2 + 2 * LEVEL_BINS.count : 2], { device: options.device });
    }
    const { loss, sigma } = traced(trace, 'forward', () => microBatchLoss(denoiser, microBatch, options)); // [N, C, P, P]
    const sum = loss.sum();
    const weighed = factors ? loss.mul(factorsAt(factors, sigma)).sum() : sum;
    const scaled = weighed.mul(scale * weight * lossFactor(lossNorm, patch, source, indices.length));
    if (isLast) reducer?.arm();
    traced(trace, 'backward', () => scaled.backward());
    const sums = torch.stack([sum.detach(), loss.detach().square().sum()]);
    if (!options.countLevels) return sums;
    return torch.cat([sums, lossesByLevel(loss.detach().div(lossWeight(options.loss, sigma)), sigma)]);
  });
}

/** The losses of the patches of a micro-batch, or of this rank's part of them, [N, C, P, P], and their noise levels. */
function microBatchLoss(
  denoiser: Denoiser,
  { patch, indices, part, quantiles, candidates, progress = 0, ...random }: MicroBatch,
  { source, device, loss: spec, objective, augment, augmentAt }: StepOptions,
): { readonly loss: Tensor; readonly sigma: Tensor } {
  const own = (from: RandomSource) => (part ? partOf(from, indices.length, part) : from);
  const draws = own(random.random);
  const positionRandom = random.positionRandom && own(random.positionRandom);
  const images = part ? Array.from(indices).slice(part.begin, part.end) : indices;
  const augmentImages = augmentAt === 'image' ? augment : null;
  const batch = makePatchBatch(source, images, patch, {
    random: draws,
    positionRandom,
    device,
    augmentImages,
    withEnergy: Boolean(candidates),
  });
  const augmentPatches = augmentImages ? null : augment;
  if (objective === 'ect')
    return consistencyLoss(denoiser, batch, draws, { augment: augmentPatches, progress });
  return lossAtLevels(denoiser, batch, draws, {
    ...{ spec, augment: augmentPatches, quantiles },
    candidates: candidates && { ...candidates, random: own(candidates.random) },
  });
}

/** Reads the losses of all micro-batches at once: one wait for the device per update. */
function readLosses(
  microBatches: readonly MicroBatch[],
  sums: readonly Tensor[],
  channels: number,
): MicroBatchLoss[] {
  const [width] = sums[0].shape;
  const values = torch.scope(() => torch.stack(sums).toFloat32Array());
  return microBatches.map(({ patch, indices }, i) => {
    sums[i].dispose();
    const count = indices.length;
    const elements = count * channels * patch.height * patch.width;
    const [sum, sumOfSquares, ...levels] = values.subarray(width * i, width * (i + 1));
    return { patch, count, elements, sum, sumOfSquares, ...(levels.length ? { levels } : {}) };
  });
}
