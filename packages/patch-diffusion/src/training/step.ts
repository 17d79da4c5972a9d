/**
 * One optimiser update (Karras et al. 2022, appendix F.2; Patch Diffusion, section 3.2): accumulate the gradients of
 * the rounds, sanitise them, let Adam step and the moving average follow.
 */

import type { Adam, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import { type Augment, denoisingLoss, type LossBatch, type LossSpec } from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import type { Extent } from '../patches/extent.js';
import { emaBeta, updateEma } from './ema.js';
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

/** One gradient-accumulation round; its tensors are made when it is this round's turn. */
export interface Round {
  readonly patch: Extent;
  /** Images of this round; the multiplier is already in it. */
  readonly count: number;
  /** Share of this round in the update's gradient. */
  readonly weight: number;
  makeBatch(): LossBatch;
  readonly random: RandomSource;
}

export interface StepOptions {
  readonly lr: number;
  readonly lrRampupKimg: number;
  readonly emaHalflifeKimg: number;
  readonly emaRampupRatio: number | null;
  /** Constant factor on the loss, as published: it is not divided out of the gradients again. */
  readonly lossScaling: number;
  /** `sum` as published, or `mean`: every patch's sum is scaled to the size of the whole image. */
  readonly lossNorm: 'sum' | 'mean';
  readonly image: Extent;
  readonly loss: LossSpec;
  readonly augment?: Augment | null;
}

export interface StepResult {
  readonly lr: number;
  readonly emaBeta: number;
  /** Per round: the loss's elements (pixels × channels × images), their sum, and the sum of their squares. */
  readonly rounds: readonly {
    readonly patch: Extent;
    readonly count: number;
    readonly elements: number;
    readonly lossSum: number;
    readonly lossSquares: number;
  }[];
  /**
   * L2 norm of the accumulated gradient before sanitising; may be NaN or infinite. With a constant loss scaling it is
   * in scaled units.
   */
  readonly gradNorm: number;
  /** The gradient overflowed at this dynamic loss scale, which was lowered; the weights were left alone. */
  readonly skipped: boolean;
}

/** Learning rate at a point of the run: a linear ramp from 0. */
export function learningRate(
  { lr, lrRampupKimg }: Pick<StepOptions, 'lr' | 'lrRampupKimg'>,
  nimg: number,
): number {
  return lrRampupKimg > 0 ? lr * Math.min(nimg / (lrRampupKimg * 1000), 1) : lr;
}

/**
 * Makes one update. The counters move on; no tensor outlives the call. Between rounds, heartbeats and signals have their
 * turn.
 * @param update its rounds, and how many images it counts as: batch · expected multiplier
 */
export async function trainStep(
  state: TrainingState,
  { rounds, images }: { readonly rounds: readonly Round[]; readonly images: number },
  options: StepOptions,
): Promise<StepResult> {
  state.optimizer.zeroGrad();
  const { lossScale } = state;
  const scale = lossScale?.scale ?? options.lossScaling;
  const pending: RoundSums[] = [];
  for (const round of rounds) {
    if (pending.length) await new Promise(setImmediate);
    pending.push(accumulate(state.denoiser, round, scale, options));
  }
  const losses = readSums(pending);
  const lr = learningRate(options, state.nimg);
  const gradNorm = sanitiseGradients(state.denoiser.parameters(), lossScale ? scale : 1);
  const skipped = Boolean(lossScale) && !Number.isFinite(gradNorm);
  if (!skipped) state.optimizer.step(lr);
  lossScale?.update(!skipped);
  const beta = emaBeta(options, state.nimg, images);
  updateEma(state.ema, state.denoiser, beta);
  state.nimg += Math.floor(images);
  state.step += 1;
  return { lr, emaBeta: beta, rounds: losses, gradNorm, skipped };
}

/** A round whose losses are still on the device. */
interface RoundSums {
  readonly patch: Extent;
  readonly count: number;
  readonly elements: number;
  /** Sum and sum of squares, float32 [2]. */
  readonly sums: Tensor;
}

/** Forward and backward of one round; its gradient is added to the parameters'. Does not wait for the device. */
function accumulate(denoiser: Denoiser, round: Round, scale: number, options: StepOptions): RoundSums {
  return torch.scope(() => {
    const loss = denoisingLoss(denoiser, round.makeBatch(), round.random, options.loss, options.augment);
    const sum = loss.sum();
    const { patch, count, weight } = round;
    const pixelScale =
      options.lossNorm === 'mean'
        ? (options.image.height * options.image.width) / (patch.height * patch.width)
        : 1;
    // Mean over the images of the round, sum over pixels.
    sum.mul((scale * pixelScale * weight) / count).backward();
    const sums = torch.stack([sum.detach(), loss.detach().square().sum()]);
    return { patch, count, elements: loss.numel, sums };
  });
}

/** Reads the losses of all rounds at once: one wait for the device per update. */
function readSums(pending: readonly RoundSums[]): StepResult['rounds'] {
  const values = torch.scope(() => torch.stack(pending.map(({ sums }) => sums)).toFloat32Array());
  return pending.map(({ patch, count, elements, sums }, i) => {
    sums.dispose();
    return { patch, count, elements, lossSum: values[2 * i]!, lossSquares: values[2 * i + 1]! };
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
