/**
 * Kernel inception distance (Bińkowski et al. 2018): the squared maximum mean discrepancy of two sets of features under
 * the kernel (xᵀy / D + 1)³. The unbiased estimate over all pairs of images is taken; the usual mean over subsets of
 * 1,000 estimates the same with more noise. It is unbiased at any number of images, so it may be below 0.
 */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { GROUPS, type Interval, jackknife } from './figure.js';

/** Sums of the kernel over pairs of groups; image i is in group i mod groups. */
interface PairSums {
  /** [groups][groups]; without the pairs of an image with itself where both sets are the same. */
  readonly sums: number[][];
}

/**
 * @param x float64 [N, D]
 * @param y float64 [M, D]; both have at least 2 rows
 */
export async function kernelDistance(
  x: Tensor,
  y: Tensor,
  signal?: AbortSignal,
): Promise<{ value: number } & Interval> {
  const [n, m] = [x.shape[0], y.shape[0]];
  const groups = Math.min(GROUPS, Math.floor(Math.min(n, m) / 2));
  const [xParts, yParts] = [grouped(x, groups), grouped(y, groups)];
  try {
    const xx = await pairSums(xParts, xParts, signal);
    const yy = await pairSums(yParts, yParts, signal);
    const xy = await pairSums(xParts, yParts, signal);
    const estimate = (leftOut: number | null) => {
      const sizes = [xParts, yParts].map((parts) => rest(parts, leftOut));
      const [a, b] = sizes;
      return (
        total(xx, leftOut) / (a * (a - 1)) +
        total(yy, leftOut) / (b * (b - 1)) -
        (2 * total(xy, leftOut)) / (a * b)
      );
    };
    const value = estimate(null);
    if (groups < 2 || rest(xParts, 0) < 2 || rest(yParts, 0) < 2) return { value, low: value, high: value };
    const without = Array.from({ length: groups }, (_, group) => estimate(group));
    return { value, ...jackknife(value, without, Number.NEGATIVE_INFINITY) };
  } finally {
    for (const part of [...xParts, ...yParts]) part.dispose();
  }
}

function grouped(x: Tensor, groups: number): Tensor[] {
  return Array.from({ length: groups }, (_, group) =>
    torch.scope(() => x.slice(0, group, null, groups).clone()),
  );
}

/** Rows that are left without a group. */
function rest(parts: readonly Tensor[], leftOut: number | null): number {
  return parts.reduce((sum, { shape }, group) => sum + (group === leftOut ? 0 : shape[0]), 0);
}

async function pairSums(a: readonly Tensor[], b: readonly Tensor[], signal?: AbortSignal): Promise<PairSums> {
  const isSame = a === b;
  const sums = a.map(() => new Array<number>(b.length).fill(0));
  for (const [i, left] of a.entries()) {
    for (const [j, right] of b.entries()) {
      if (isSame && j < i) {
        sums[i][j] = sums[j][i];
        continue;
      }
      signal?.throwIfAborted();
      sums[i][j] = torch.noGrad(() =>
        torch.scope(() => {
          const kernel = left.matmul(right.t()).div(left.shape[1]).add(1).pow(3);
          const own = isSame && i === j ? kernel.trace().item() : 0;
          return kernel.sum().item() - own;
        }),
      );
      await setImmediate();
    }
  }
  return { sums };
}

function total({ sums }: PairSums, leftOut: number | null): number {
  let sum = 0;
  for (const [i, row] of sums.entries()) {
    for (const [j, value] of row.entries()) if (i !== leftOut && j !== leftOut) sum += value;
  }
  return sum;
}
