/**
 * Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020): how many samples lie among
 * the real images, and how many real images have samples near them. "Near" is within the distance of an image's k-th
 * nearest neighbour in its own set, by features; k = 5.
 */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

export const NEIGHBOURS = 5;
/** Rows of the matrix of distances at a time. */
const ROWS = 512;
/** Room for rounding, so that the k-th neighbour itself is inside. */
const ROUNDING = 1e-9;

/** One value per image; each figure is their mean. */
export interface Neighbourhoods {
  /** 1 where a sample lies in the ball of a real image. */
  readonly precision: Float64Array;
  /** 1 where a real image lies in the ball of a sample. */
  readonly recall: Float64Array;
  /** Balls of real images that hold a sample, ÷ k. */
  readonly density: Float64Array;
  /** 1 where the ball of a real image holds a sample. */
  readonly coverage: Float64Array;
}

/**
 * @param real float64 [N, D], N > k
 * @param samples float64 [M, D], M > k
 */
export async function neighbourhoods(
  real: Tensor,
  samples: Tensor,
  signal?: AbortSignal,
): Promise<Neighbourhoods> {
  const [n, m] = [real.shape[0], samples.shape[0]];
  const precision = new Float64Array(m);
  const density = new Float64Array(m);
  const recall = new Float64Array(n);
  const coverage = new Float64Array(n);
  const [realRadii, sampleRadii] = [await radii(real, signal), await radii(samples, signal)];
  try {
    for (let start = 0; start < m; start += ROWS) {
      signal?.throwIfAborted();
      const rows = Math.min(ROWS, m - start);
      torch.noGrad(() =>
        torch.scope(() => {
          const distances = squaredDistances(samples.narrow(0, start, rows), real); // [rows, N]
          const inReal = distances.le(realRadii.reshape([1, n]));
          const inSamples = distances.le(sampleRadii.narrow(0, start, rows).reshape([rows, 1]));
          const balls = inReal.to({ dtype: 'float64' }).sum([1]).toTypedArray() as Float64Array;
          for (const [k, count] of balls.entries()) {
            precision[start + k] = count > 0 ? 1 : 0;
            density[start + k] = count / NEIGHBOURS;
          }
          merge(coverage, inReal);
          merge(recall, inSamples);
        }),
      );
      await setImmediate();
    }
  } finally {
    realRadii.dispose();
    sampleRadii.dispose();
  }
  return { precision, recall, density, coverage };
}

/** Sets to 1 what has a hit in a column. */
function merge(into: Float64Array, hits: Tensor): void {
  const found = hits.to({ dtype: 'float64' }).sum([0]).toTypedArray() as Float64Array;
  for (const [k, count] of found.entries()) if (count > 0) into[k] = 1;
}

/** Squared distance of each row to its k-th nearest other row, [N]. */
async function radii(x: Tensor, signal?: AbortSignal): Promise<Tensor> {
  const n = x.shape[0];
  const all = new Float64Array(n);
  for (let start = 0; start < n; start += ROWS) {
    signal?.throwIfAborted();
    const rows = Math.min(ROWS, n - start);
    const found = torch.noGrad(() =>
      torch.scope(() => {
        const distances = squaredDistances(x.narrow(0, start, rows), x);
        // The smallest is the distance to itself.
        const [nearest] = torch.topk(distances, NEIGHBOURS + 1, 1, false, true);
        return nearest
          .select(1, NEIGHBOURS)
          .mul(1 + ROUNDING)
          .toTypedArray() as Float64Array;
      }),
    );
    all.set(found, start);
    await setImmediate();
  }
  return torch.tensor(all, { dtype: 'float64' });
}

/** [A, B]; what is rounding of the product is 0, so that copies lie at their original's place. */
export function squaredDistances(a: Tensor, b: Tensor): Tensor {
  return torch.scope(() => {
    const norms = a
      .square()
      .sum([1], true)
      .add(b.square().sum([1]).reshape([1, -1]));
    const distances = norms.sub(a.matmul(b.t()).mul(2));
    return torch.where(distances.gt(norms.mul(1e-13)), distances, torch.zerosLike(distances));
  });
}
