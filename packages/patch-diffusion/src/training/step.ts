/**
 * One optimiser update (Karras et al. 2022, appendix F.2; Patch Diffusion, algorithm 1): the gradients of its micro-batches
 * are accumulated; then the gradient is sanitised, and the optimiser steps and the moving average follows.
 */
import type { Optimizer, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { traced } from '../common/trace.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import type { Extent } from '../patches/extent.js';
import { type EmaOptions, emaBeta } from './ema.js';
import { accumulateGradient, type GradientOptions, type MicroBatch, type Reducer } from './gradient.js';
import type { DynamicLossScale } from './loss-scale.js';
import type { NoiseHistogram } from './noise-histogram.js';
import { imagesByPixels, type PowerAverages } from './power-averages.js';

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

/** What one update trains on. */
export interface Update {
  readonly microBatches: readonly MicroBatch[];
  /** Images that the update counts as: batch · expected multiplier. */
  readonly nimg: number;
  /** Share of the run that is done, 0 … 1, for the cooldown of the learning rate. */
  readonly progress?: number;
}

export interface StepOptions extends EmaOptions, GradientOptions {
  readonly lr: number;
  readonly lrRampupKimg: number;
  /** Share of the run at its end over which the learning rate falls to 0; 0 by default. */
  readonly lrCooldown?: number;
  /** Constant factor on the loss, as published: it is not divided out of the gradients again. */
  readonly lossScaling: number;
  /**
   * Whether losses and gradient norm are read when somebody asks for them, so that a GPU goes on meanwhile; not with dynamic
   * loss scaling, where they decide about the update.
   */
  readonly readsLater?: boolean;
  /**
   * Gives the losses of all ranks for this rank's part of them. It is called while the ranks' gradients are summed, and the
   * update waits for both; not with {@link StepOptions.readsLater}.
   */
  readonly shareLosses?: (own: readonly MicroBatchLoss[]) => Promise<readonly MicroBatchLoss[]>;
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
  update: Update,
  options: StepOptions,
): Promise<StepResult> {
  return (await startStep(state, update, options))();
}

/**
 * Makes one update as {@link trainStep} does.
 * @returns gives its result; with {@link StepOptions.readsLater} that waits for the device, and may be called later
 */
export async function startStep(
  state: TrainingState,
  { microBatches, nimg, progress }: Update,
  options: StepOptions,
): Promise<() => Promise<StepResult>> {
  const { denoiser, ema, optimizer, lossScale, powerAverages } = state;
  const { reducer, graphs, trace } = options;
  if (reducer) reducer.zero();
  else if (graphs) graphs.zeroGradients();
  else optimizer.zeroGrad();
  const scale = lossScale?.scale ?? options.lossScaling;
  const sums: Tensor[] = [];
  const last = microBatches.findLastIndex(({ part }) => !part || part.end > part.begin);
  for (const [i, microBatch] of microBatches.entries()) {
    if (sums.length) await new Promise(setImmediate);
    sums.push(accumulateGradient(denoiser, microBatch, scale, { ...options, isLast: i === last }));
  }
  const { channels } = options.source;
  const own = options.readsLater ? null : lossesOf(microBatches, readNow(sums), channels);
  const losses = reducer
    ? await traced(trace, 'wait for reduction', () => sumOverRanks(reducer, own, options.shareLosses))
    : own;
  const unscale = lossScale ? 1 / scale : 1;
  const gradNorm = own ? torch.sanitiseGradients(denoiser.parameters(), unscale) : Number.NaN;
  const later = own ? null : readLater(sums, denoiser.parameters());
  const endUpdate = trace?.begin('optimiser');
  const lr = learningRate(options, state.nimg, progress);
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
  const known = { lr, emaBeta: beta, skipped };
  return async () => {
    if (losses) return { ...known, losses, gradNorm };
    const read = await later!();
    return { ...known, losses: lossesOf(microBatches, read.values, channels), gradNorm: read.gradNorm };
  };
}

/** Waits for the gradients and losses of all ranks. */
async function sumOverRanks(
  reducer: Reducer,
  own: readonly MicroBatchLoss[] | null,
  shareLosses: StepOptions['shareLosses'],
): Promise<readonly MicroBatchLoss[] | null> {
  // The losses after all gradients, on every rank.
  const gradients = reducer.finish();
  const [losses] = await Promise.all([own && shareLosses ? shareLosses(own) : own, gradients]);
  return losses;
}

/** Reads the sums of all micro-batches at once. */
function readNow(sums: readonly Tensor[]): Float32Array {
  const values = torch.scope(() => torch.stack(sums).toFloat32Array());
  for (const sum of sums) sum.dispose();
  return values;
}

/** Has sums and norm copied to the host when the device comes to it, and goes on. */
function readLater(
  sums: readonly Tensor[],
  parameters: readonly Tensor[],
): () => Promise<{ readonly values: Float32Array; readonly gradNorm: number }> {
  const readings = torch.scope(() => {
    const norm = torch.cleanGradients(parameters);
    return torch.cat([torch.stack(sums).flatten(), norm.reshape([1])]);
  });
  const copy = readings.readback();
  for (const tensor of [...sums, readings]) tensor.dispose();
  // A failure of the device is told to whoever asks for the result.
  copy.catch(() => {});
  return async () => {
    const values = (await copy) as Float32Array;
    return { values: values.subarray(0, -1), gradNorm: values[values.length - 1] };
  };
}

function lossesOf(
  microBatches: readonly MicroBatch[],
  values: Float32Array,
  channels: number,
): MicroBatchLoss[] {
  const width = values.length / microBatches.length;
  return microBatches.map(({ patch, indices }, i) => {
    const count = indices.length;
    const elements = count * channels * patch.height * patch.width;
    const [sum, sumOfSquares, ...levels] = values.subarray(width * i, width * (i + 1));
    return { patch, count, elements, sum, sumOfSquares, ...(levels.length ? { levels } : {}) };
  });
}
