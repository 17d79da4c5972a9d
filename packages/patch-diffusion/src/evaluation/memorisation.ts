/**
 * Memorisation (Yoon et al. 2023; Bonnaire et al. 2025): the share of samples that lie much nearer to one training image
 * than to the next one, ‖x − a₁‖ / ‖x − a₂‖ < 1/3 by the distance of pixels. A training image and its mirrored copy
 * count as one image, at the smaller distance of the two.
 */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type Figure, meanFigure } from './figure.js';
import { chunks, type Pixels } from './pixels.js';

/** A sample is a copy below this ratio of the distances to the nearest and second nearest training image. */
const COPY_RATIO = 1 / 3;
/** Samples and training images at a time. */
const SAMPLES = 512;
const TRAINING = 1024;
/** Candidates whose distance is computed again, exactly. */
const CANDIDATES = 4;

/** The training images nearest to a sample. */
export interface Nearest {
  /** Index of the sample. */
  readonly sample: number;
  /** Index of the nearest training image, and of the second nearest. */
  readonly training: readonly [number, number];
  /** Root-mean-square difference of the pixels, 0 … 1. */
  readonly distance: number;
  /** Distance to the nearest ÷ to the second nearest; 0 for an exact copy. */
  readonly ratio: number;
}

/**
 * The nearest training images of the first `count` samples, in the order of the samples.
 * @param training at least two images of the samples' size
 */
export async function nearestTraining(
  samples: Pixels,
  count: number,
  training: Pixels,
  { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: (done: number) => void } = {},
): Promise<Nearest[]> {
  const found: Nearest[] = [];
  for (const indices of chunks(count, SAMPLES)) {
    const x = vectors(await samples.read(indices));
    let best: Candidates | null = null;
    try {
      for (const block of chunks(training.count, TRAINING)) {
        signal?.throwIfAborted();
        const bytes = await training.read(block);
        const next: Candidates = torch.noGrad(() =>
          torch.scope(() => merge(best, candidates(x, bytes, training, block))),
        );
        best?.distances.dispose();
        best?.indices.dispose();
        best = next;
        await setImmediate();
      }
      if (best === null) throw new RangeError('internal: there are no training images');
      found.push(...(await exact(indices, await samples.read(indices), best.indices, training)));
    } finally {
      x.dispose();
      best?.distances.dispose();
      best?.indices.dispose();
    }
    onProgress?.(found.length);
  }
  return found;
}

/** The share of copies among the samples, with its interval. */
export function memorised(nearest: readonly Nearest[], floor: number | null = null): Figure {
  return meanFigure(
    nearest.map(({ ratio }) => (ratio < COPY_RATIO ? 1 : 0)),
    floor,
  );
}

/** Squared distances and indices of the nearest training images so far, [N, CANDIDATES]. */
interface Candidates {
  readonly distances: Tensor;
  readonly indices: Tensor;
}

/** float32 [N·C·H·W] in [−1, 1] */
function vectors(pixels: Uint8Array): Tensor {
  return torch.scope(() =>
    torch.tensor(pixels, { dtype: 'uint8' }).to({ dtype: 'float32' }).div(127.5).sub(1),
  );
}

function candidates(x: Tensor, bytes: Uint8Array, training: Pixels, block: readonly number[]): Candidates {
  const { channels, height, width } = training;
  const y = vectors(bytes).reshape([block.length, channels, height, width]);
  const flat = x.reshape([-1, channels * height * width]);
  const distance = (images: Tensor) => {
    const rows = images.reshape([block.length, -1]);
    const norms = flat
      .square()
      .sum([1], true)
      .add(rows.square().sum([1]));
    return norms.sub(flat.matmul(rows.t()).mul(2));
  };
  const either = torch.minimum(distance(y), distance(y.flip([3]))); // [N, block]
  const [distances, order] = torch.topk(either, Math.min(CANDIDATES, block.length), 1, false, true);
  return { distances, indices: order.add(block[0]) };
}

function merge(before: Candidates | null, next: Candidates): Candidates {
  if (before === null) return next;
  const distances = torch.cat([before.distances, next.distances], 1);
  const indices = torch.cat([before.indices, next.indices], 1);
  const [values, order] = torch.topk(distances, Math.min(CANDIDATES, distances.shape[1]), 1, false, true);
  return { distances: values, indices: indices.gather(1, order) };
}

/** The distances of the candidates in whole numbers: those of the matrix product are off by rounding near 0. */
async function exact(
  samples: readonly number[],
  pixels: Uint8Array,
  indices: Tensor,
  training: Pixels,
): Promise<Nearest[]> {
  const [, width] = indices.shape;
  const chosen = Array.from(indices.toTypedArray() as BigInt64Array, Number);
  const bytes = await training.read(chosen);
  const length = pixels.length / samples.length;
  return samples.map((sample, n) => {
    const x = pixels.subarray(n * length, (n + 1) * length);
    const ranked = Array.from({ length: width }, (_, k) => {
      const at = n * width + k;
      const y = bytes.subarray(at * length, (at + 1) * length);
      return { training: chosen[at], squares: squaredDifference(x, y, training.width) };
    }).sort((a, b) => a.squares - b.squares);
    const [first, second] = ranked;
    return {
      sample,
      training: [first.training, second.training],
      distance: Math.sqrt(first.squares / length) / 255,
      ratio: first.squares === 0 ? 0 : Math.sqrt(first.squares / second.squares),
    };
  });
}

/** Sum of squares of the differences to an image or its mirrored copy, whichever is nearer. */
function squaredDifference(x: Uint8Array, y: Uint8Array, width: number): number {
  let plain = 0;
  let mirrored = 0;
  for (let row = 0; row < x.length; row += width) {
    for (let column = 0; column < width; column++) {
      plain += (x[row + column] - y[row + column]) ** 2;
      mirrored += (x[row + column] - y[row + width - 1 - column]) ** 2;
    }
  }
  return Math.min(plain, mirrored);
}
