/**
 * The denoising loss over a fixed grid of noise levels, on images in a fixed order with noise of their own: two networks
 * see the same noisy images, so the figure has little variance and curves can be compared. The weight of EDM is used
 * for every kind of network, and the levels are averaged with the density that EDM trains with.
 */
import { setImmediate } from 'node:timers/promises';
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import type { DataSet } from '../data/types.js';
import { DEFAULT_SIGMA_DATA, EDM_NOISE } from '../diffusion/noise-levels.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { PerSampleRandom } from '../diffusion/sample-noise.js';
import { makePatchBatch } from '../patches/batches.js';
import type { Extent } from '../patches/extent.js';
import { bootstrap, type Figure, meanAt } from './figure.js';

/** Noise levels, a factor of 2 apart. */
export const SIGMAS = Array.from({ length: 12 }, (_, k) => 0.0125 * 2 ** k);

/** Level at which the gap between training and held-out images opens first; its index in {@link SIGMAS}. */
export const GAP_LEVEL = SIGMAS.indexOf(0.2);

/** Share of each level in the mean: the density of ln σ that EDM trains with. */
const SHARES = (() => {
  const density = SIGMAS.map((s) => Math.exp(-0.5 * ((Math.log(s) - EDM_NOISE.pMean) / EDM_NOISE.pStd) ** 2));
  const sum = density.reduce((a, b) => a + b);
  return density.map((d) => d / sum);
})();

/** Weighted loss per element, by noise level and image: `losses[level][image]`. */
export type LossTable = readonly Float64Array[];

export interface LossOptions {
  /** Noisy images at a time. */
  readonly batch: number;
  readonly device: Device;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Losses of the first `count` images of a set, on one patch of each (whole images where the patch has their size).
 * @throws AbortError when the signal asks to stop
 */
export async function measureLosses(
  denoiser: Denoiser,
  set: DataSet,
  count: number,
  patch: Extent,
  { batch, device, signal, onProgress }: LossOptions,
): Promise<LossTable> {
  const levels = SIGMAS.length;
  const table = SIGMAS.map(() => new Float64Array(count));
  const step = Math.max(1, Math.floor(batch / levels));
  for (let start = 0; start < count; start += step) {
    signal?.throwIfAborted();
    const images = Array.from({ length: Math.min(step, count - start) }, (_, i) => start + i);
    await set.ready(images);
    const losses = torch.noGrad(() =>
      torch.scope(() => patchLosses(denoiser, set, images, patch, device).toTypedArray()),
    ) as Float32Array;
    for (const [i, image] of images.entries())
      for (let level = 0; level < levels; level++) table[level][image] = losses[i * levels + level];
    onProgress?.(start + images.length, count);
    await setImmediate();
  }
  return table;
}

/** float32 [N · levels] on the CPU. */
function patchLosses(
  denoiser: Denoiser,
  set: DataSet,
  indices: readonly number[],
  patch: Extent,
  device: Device,
): Tensor {
  const levels = SIGMAS.length;
  const random = new PerImageRandom(indices, device);
  const { images, positions, labels } = makePatchBatch(set, indices, patch, { random, device });
  const [N, C, H, W] = images.shape;
  const repeated = (t: Tensor) => t.repeatInterleave(levels, 0);
  const sigma = torch
    .tensor(Float32Array.from(SIGMAS), { device })
    .repeat([N])
    .reshape([N * levels, 1, 1, 1]);
  const noise = random.randn('noise', [N, levels, C, H, W]).reshape([N * levels, C, H, W]);
  const y = repeated(images);
  const D = denoiser.forward(y.add(noise.mul(sigma)), sigma, {
    positions: positions && repeated(positions),
    classLabels: labels && repeated(labels),
  });
  const sigmaData = sigmaDataOf(denoiser);
  const weight = sigma
    .square()
    .add(sigmaData ** 2)
    .div(sigma.mul(sigmaData).square());
  return D.sub(y).square().mul(weight).mean([1, 2, 3]).to({ dtype: 'float32', device: 'cpu' });
}

function sigmaDataOf({ spec }: Denoiser): number {
  return ('sigmaData' in spec ? spec.sigmaData : undefined) ?? DEFAULT_SIGMA_DATA;
}

/** Draws that depend on the image's number only, not on the batch that it is in. */
class PerImageRandom implements RandomSource {
  readonly #random: PerSampleRandom;
  readonly #count: number;

  constructor(indices: readonly number[], device: Device) {
    this.#count = indices.length;
    // Other streams than those of the samples, which begin with their seed.
    this.#random = new PerSampleRandom(
      indices.map((index) => 3_000_000_000 + index),
      device,
    );
  }

  rand(name: string, shape: readonly number[]): Tensor {
    return this.randn(name, shape).mul(Math.SQRT1_2).erf().add(1).div(2);
  }

  randn(_name: string, [count, ...shape]: readonly number[]): Tensor {
    if (count !== this.#count) throw new RangeError(`internal: ${count} draws for ${this.#count} images`);
    return this.#random.randn(shape);
  }

  randint(_name: string, low: number, high: number): Tensor {
    return torch.tensor(
      this.#random.integers(high - low).map((k) => low + k),
      { dtype: 'int64' },
    );
  }
}

/** Mean over the levels of each image. */
export function lossPerImage(table: LossTable): Float64Array {
  return Float64Array.from(table[0], (_, image) =>
    SHARES.reduce((sum, share, level) => sum + share * table[level][image], 0),
  );
}

/** Mean over the images of each level. */
export function lossPerLevel(table: LossTable): number[] {
  return table.map((row) => row.reduce((sum, loss) => sum + loss, 0) / row.length);
}

/** How much larger the loss on held-out images is at σ = 0.2: held out ÷ training − 1. */
export function lossGap(heldOut: LossTable, training: LossTable): Figure {
  const [a, b] = [heldOut[GAP_LEVEL], training[GAP_LEVEL]];
  const all = (values: Float64Array) => Int32Array.from(values, (_, i) => i);
  const value = meanAt(a, all(a)) / meanAt(b, all(b)) - 1;
  // The two sets are drawn apart from each other.
  const both = a.length + b.length;
  const interval = bootstrap(both, (indices) => {
    const first = indices.subarray(0, a.length).map((i) => i % a.length);
    const second = indices.subarray(a.length).map((i) => i % b.length);
    return meanAt(a, first) / meanAt(b, second) - 1;
  });
  return { value, ...interval, n: Math.min(a.length, b.length), floor: null };
}
