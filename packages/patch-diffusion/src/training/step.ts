/**
 * One optimiser update (Karras et al. 2022, appendix F.2; Patch Diffusion, algorithm 1): for each micro-batch, cut
 * patches, compute the denoising loss and accumulate its gradient; then sanitise the gradient, and let Adam step and the
 * moving average follow.
 */
import type { Adam, Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import { denoisingLoss, type LossNorm, type LossSpec, lossFactor } from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { type Augment, makePatchBatch, type PatchSource } from '../patches/batches.js';
import type { Extent } from '../patches/extent.js';
import { type EmaOptions, emaBeta, updateEma } from './ema.js';
import type { DynamicLossScale } from './loss-scale.js';

/** What an update changes. */
export interface TrainingState {
  readonly denoiser: Denoiser;
  /** Moving average of the denoiser's weights. */
  readonly ema: Denoiser;
  readonly optimizer: Adam;
  /** Dynamic loss scaling; without it the loss has the constant factor of the options. */
  readonly lossScale?: DynamicLossScale | null;
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
}

/** What one update trains on. */
export interface Update {
  readonly microBatches: readonly MicroBatch[];
  /** Images that the update counts as: batch · expected multiplier. */
  readonly nimg: number;
}

export interface StepOptions extends EmaOptions {
  /** Its items must be ready. */
  readonly source: PatchSource;
  readonly device: Device;
  readonly lr: number;
  readonly lrRampupKimg: number;
  /** Constant factor on the loss, as published: it is not divided out of the gradients again. */
  readonly lossScaling: number;
  readonly lossNorm: LossNorm;
  readonly loss: LossSpec;
  readonly augment: Augment | null;
  /** Whether patches are augmented, as published, or whole images before patches are cut. */
  readonly augmentAt: 'patch' | 'image';
}

/** The loss of a micro-batch. */
export interface MicroBatchLoss {
  readonly patch: Extent;
  /** Number of patches. */
  readonly count: number;
  /** Pixels × channels × patches. */
  readonly elements: number;
  /** Sum over the elements. */
  readonly sum: number;
  /** Sum of the squares of the elements. */
  readonly sumOfSquares: number;
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
 * Learning rate at a point of the run: a linear ramp from 0.
 * @example
 * ```ts
 * const lr = learningRate({ lr: 2e-4, lrRampupKimg: 10_000 }, 5_000_000); // 1e-4
 * ```
 */
export function learningRate(
  { lr, lrRampupKimg }: Pick<StepOptions, 'lr' | 'lrRampupKimg'>,
  nimg: number,
): number {
  return lrRampupKimg > 0 ? lr * Math.min(nimg / (lrRampupKimg * 1000), 1) : lr;
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
  { microBatches, nimg }: Update,
  options: StepOptions,
): Promise<StepResult> {
  const { denoiser, ema, optimizer, lossScale } = state;
  optimizer.zeroGrad();
  const scale = lossScale?.scale ?? options.lossScaling;
  const sums: Tensor[] = [];
  for (const microBatch of microBatches) {
    if (sums.length) await new Promise(setImmediate);
    sums.push(accumulateGradient(denoiser, microBatch, scale, options));
  }
  const losses = readLosses(microBatches, sums, options.source.channels);
  const lr = learningRate(options, state.nimg);
  const gradNorm = sanitiseGradients(denoiser.parameters(), lossScale ? scale : 1);
  const skipped = Boolean(lossScale) && !Number.isFinite(gradNorm);
  if (!skipped) optimizer.step(lr);
  lossScale?.update(!skipped);
  const beta = emaBeta(options, state.nimg, nimg);
  updateEma(ema, denoiser, beta);
  state.nimg += Math.floor(nimg);
  state.step += 1;
  return { lr, emaBeta: beta, losses, gradNorm, skipped };
}

/**
 * Forward and backward; the gradient is added to the parameters'. Does not wait for the device.
 * @returns sum and sum of squares of the loss, float32 [2]
 */
function accumulateGradient(
  denoiser: Denoiser,
  { patch, indices, weight, random, positionRandom }: MicroBatch,
  scale: number,
  { source, device, loss: lossSpec, lossNorm, augment, augmentAt }: StepOptions,
): Tensor {
  return torch.scope(() => {
    const augmentImages = augmentAt === 'image' ? augment : null;
    const batch = makePatchBatch(source, indices, patch, { random, positionRandom, device, augmentImages });
    const loss = denoisingLoss(denoiser, batch, random, lossSpec, augmentImages ? null : augment); // [N, C, P, P]
    const sum = loss.sum();
    sum.mul(scale * weight * lossFactor(lossNorm, patch, source, indices.length)).backward();
    return torch.stack([sum.detach(), loss.detach().square().sum()]);
  });
}

/** Reads the losses of all micro-batches at once: one wait for the device per update. */
function readLosses(
  microBatches: readonly MicroBatch[],
  sums: readonly Tensor[],
  channels: number,
): MicroBatchLoss[] {
  const values = torch.scope(() => torch.stack(sums).toFloat32Array());
  return microBatches.map(({ patch, indices }, i) => {
    sums[i].dispose();
    const count = indices.length;
    const elements = count * channels * patch.height * patch.width;
    return { patch, count, elements, sum: values[2 * i], sumOfSquares: values[2 * i + 1] };
  });
}

/**
 * Divides gradients by `scale`, then replaces NaN by 0 and ±∞ by ±10⁵ where there are any.
 * @returns the gradient's L2 norm in between
 */
function sanitiseGradients(parameters: readonly Tensor[], scale: number): number {
  return torch.noGrad(() =>
    torch.scope(() => {
      const grads = parameters.flatMap(({ grad }) => (grad ? [grad] : []));
      if (scale !== 1) torch._foreachMul_(grads, 1 / scale);
      const norms = torch._foreachNorm(grads);
      const norm = torch.stack(norms).norm().item();
      if (!Number.isFinite(norm)) for (const grad of grads) grad.nanToNum_(0, 1e5, -1e5);
      return norm;
    }),
  );
}
