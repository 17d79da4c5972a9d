/**
 * Easy Consistency Tuning (Geng et al. 2024, arXiv 2406.14548): a trained denoiser learns to give the same estimate at two
 * noise levels t > r of one noise, and with that the end of the whole trajectory in one or two evaluations. The gap between
 * the levels shrinks over the run; at its start r is mostly 0, where the estimate is the image itself.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import type { Augment, PatchBatch } from '../patches/batches.js';
import type { Denoiser } from './preconditioning.js';

/** Of ln t, which is normal. */
const LEVELS = { mean: -1.1, std: 2 } as const;
/** The gap t − r halves with each stage; stages are of equal length. */
const STAGES = 8;
/** Of the pseudo-Huber distance, per element: 0.00054·√d for d elements (Song & Dhariwal 2024). */
const HUBER = 0.00054;
/** Below this level an estimate is the image. */
const LOWEST = 0.002;

export interface ConsistencyLossOptions {
  readonly augment?: Augment | null | undefined;
  /** Share of the run that is done, 0 … 1. */
  readonly progress: number;
}

/**
 * The loss of one batch, the same for all elements of a patch, [N, C, H, W], and the noise levels t, [N, 1, 1, 1].
 * (√(mean (D(y + t·ε; t) − D(y + r·ε; r))² + c²) − c) / (t − r), the second estimate without gradient.
 */
export function consistencyLoss(
  denoiser: Denoiser,
  batch: PatchBatch,
  random: RandomSource,
  { augment, progress }: ConsistencyLossOptions,
): { readonly loss: Tensor; readonly sigma: Tensor } {
  return torch.scope(() => {
    const shape = [batch.images.shape[0], 1, 1, 1];
    const t = random.randn('rnd_normal', shape).mul(LEVELS.std).add(LEVELS.mean).exp();
    const r = earlierLevel(t, progress);
    const augmented = augment
      ? augment(batch.images, random)
      : { images: batch.images, labels: batch.augmentLabels };
    const y = augmented.images;
    const noise = random.randn('noise', y.shape);
    const estimate = (sigma: Tensor): Tensor =>
      denoiser.forward(y.add(noise.mul(sigma)), sigma, {
        positions: batch.positions,
        classLabels: batch.labels,
        augmentLabels: augmented.labels,
        random: draws,
      });
    const draws = repeatable(random);
    const [student, other] = withSameDropout(
      denoiser,
      y.device,
      () => estimate(t),
      () => torch.noGrad(() => torch.scope(() => estimate(r.clamp(LOWEST)))),
    );
    const target = torch.where(r.gt(LOWEST), other, y);
    const distance = student
      .sub(target)
      .square()
      .mean([1, 2, 3], true)
      .add(HUBER ** 2)
      .sqrt()
      .sub(HUBER);
    return { loss: distance.div(t.sub(r)).expand(y.shape), sigma: t };
  });
}

/** r = t·(1 − 2^−(stage + 1)·n(t)), at least 0, with n(t) = 1 + 8·sigmoid(−t). */
function earlierLevel(t: Tensor, progress: number): Tensor {
  const stage = Math.min(Math.floor(progress * STAGES), STAGES - 1);
  const n = t.neg().sigmoid().mul(8).add(1);
  return t.mul(n.mul(-(2 ** -(stage + 1))).add(1)).clamp(0);
}

/** Gives the same tensor to all who ask for a name. */
function repeatable(random: RandomSource): RandomSource {
  const drawn = new Map<string, Tensor>();
  const once = (name: string, draw: () => Tensor): Tensor => {
    const known = drawn.get(name) ?? draw();
    drawn.set(name, known);
    return known;
  };
  return {
    rand: (name, shape, batchDim) => once(name, () => random.rand(name, shape, batchDim)),
    randn: (name, shape, batchDim) => once(name, () => random.randn(name, shape, batchDim)),
    randint: (name, low, high, shape, batchDim) =>
      once(name, () => random.randint(name, low, high, shape, batchDim)),
  };
}

/** Two forward passes with the same dropout, which draws from the device's own generator. */
function withSameDropout<T>(denoiser: Denoiser, device: string, first: () => T, second: () => T): [T, T] {
  if (!denoiser.spec.network.dropout) return [first(), second()];
  const generator = torch.Generator.default(device);
  const before = generator.getState();
  const result = first();
  generator.setState(before);
  return [result, second()];
}
