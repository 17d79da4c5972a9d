/** Forward and backward on the device: against the CPU in float32, and in the other precisions. */
import * as torch from '@patch-diffusion/torch';
import type { TrainOptions } from 'patch-diffusion';
import type { PatchSize } from 'patch-diffusion/method';
import { presetOptions } from '../../command-line.js';
import { isWithin, lossDifference, TOLERANCE } from '../../equal-loss.js';
import { type ProbeBatch, TrainingStep } from '../../training-step.js';
import { type StageContext, sizesFor } from './context.js';

type Precision = TrainOptions['precision'];

/** Images per full-size step: these stages look at values, not at speed. */
const BATCH = 4;

/** float32 with products of 10 bits of mantissa. */
const TF32_TOLERANCE = 1e-2;

/** A loss and its gradient at each patch size, with the weights and draws of a CPU. */
export async function agreement({ device, emit }: StageContext): Promise<void> {
  const reference = makeStep(device, 'cpu', 'fp32');
  const step = makeStep(device, device, 'fp32', reference);
  for (const patch of reference.sizes) {
    const probe = reference.probe(patch);
    const found = lossDifference(step.loss(moved(probe, device)), reference.loss(probe));
    emit({
      name: `loss and gradient, ${patch.width} px, against the CPU`,
      status: isWithin(TOLERANCE.float32, found) ? 'ok' : 'failed',
      detail: `loss differs by ${found.loss.toExponential(1)} (at most ${TOLERANCE.float32}), norm of the gradient by ${found.gradNorm.toExponential(1)} (at most ${TOLERANCE.float32 * 10})`,
      figures: { ...found },
    });
  }
}

/** Each precision: near float32 before, and better on the same draws after some updates. */
export async function precisions({ device, emit }: StageContext): Promise<void> {
  const { updates } = sizesFor(device);
  const float32 = makeStep(device, device, 'fp32');
  const patch = float32.sizes[0] as PatchSize;
  const probe = float32.probe(patch);
  const expected = float32.loss(probe);
  for (const precision of ['fp32', 'tf32', 'bf16', 'fp16'] as const) {
    const name = `training in ${precision}`;
    if (precision === 'fp16' && device === 'cpu') {
      emit({ name, status: 'skipped', detail: 'float16 is for GPUs' });
      continue;
    }
    const step = makeStep(device, device, precision, float32);
    const tolerance = precision === 'tf32' ? TF32_TOLERANCE : TOLERANCE[step.dtype];
    const before = step.loss(probe);
    const found = lossDifference(before, expected);
    for (let i = 0; i < updates; i++) for (const size of step.sizes) await step.runWhole(size);
    const after = step.loss(probe);
    const isBetter = Number.isFinite(after.gradNorm) && after.loss < before.loss;
    emit({
      name,
      status: isBetter && isWithin(tolerance, found) ? 'ok' : 'failed',
      detail: `loss ${before.loss.toPrecision(5)}, differs from float32's by ${found.loss.toExponential(1)} (at most ${tolerance}), after ${updates * step.sizes.length} updates ${after.loss.toPrecision(5)}`,
      figures: { before: before.loss, after: after.loss, difference: found.loss },
    });
    step.dispose();
  }
}

/** @param like whose weights it gets: random numbers differ between devices */
function makeStep(sizesOf: string, device: string, precision: Precision, like?: TrainingStep): TrainingStep {
  const train = presetOptions(sizesFor(sizesOf).preset);
  const step = new TrainingStep({ train, batch: BATCH, device, precision });
  if (like) step.denoiser.loadStateDict(like.denoiser.stateDict());
  return step;
}

function moved(probe: ProbeBatch, device: string): ProbeBatch {
  const { images, coords, normal, noise } = probe;
  const move = (tensor: torch.Tensor) => torch.noGrad(() => tensor.to({ device }));
  return { images: move(images), coords: move(coords), normal: move(normal), noise: move(noise) };
}
