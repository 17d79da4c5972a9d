/** The Fréchet distance of two sets of features with its interval, in one pass over each set and flat memory. */
import { setImmediate } from 'node:timers/promises';
import * as torch from '@patch-diffusion/torch';
import { type Bench, progressOf } from './bench.js';
import type { Part } from './features/parts.js';
import { GROUPS, type Interval, jackknife } from './figure.js';
import { FeatureAccumulator, type FeatureStatistics, frechetDistance } from './frechet.js';

/** Mean and covariance of a part; of every `groups`-th image from `group` on where they are given. */
export async function accumulate(
  { set, indices }: Part,
  signal?: AbortSignal,
  group = 0,
  groups = 1,
): Promise<FeatureAccumulator> {
  const chosen = indices.filter((_, k) => k % groups === group);
  const sum = new FeatureAccumulator(set.dim);
  try {
    for await (const block of set.blocks(chosen)) {
      signal?.throwIfAborted();
      sum.add(block);
      block.dispose();
    }
    return sum;
  } catch (error) {
    sum.dispose();
    throw error;
  }
}

/**
 * The distance alone.
 * @param b images, or the statistics of some
 */
export async function featureDistance(bench: Bench, a: Part, b: Part | FeatureStatistics): Promise<number> {
  return (await distances(bench, a, b, 0)).value;
}

/** The distance with its interval; statistics count as exact. */
export async function featureDistanceFigure(
  bench: Bench,
  a: Part,
  b: Part | FeatureStatistics,
): Promise<{ value: number } & Interval> {
  const least = Math.min(a.indices.length, 'indices' in b ? b.indices.length : a.indices.length);
  // Without one of its groups, each side still needs a covariance.
  const groups = Math.min(GROUPS, Math.floor(least / 3));
  const { value, without } = await distances(bench, a, b, groups);
  return {
    value,
    ...(without.length > 1 ? jackknife(value, without) : { low: Math.min(0, value), high: value }),
  };
}

async function distances(
  bench: Bench,
  a: Part,
  b: Part | FeatureStatistics,
  groups: number,
): Promise<{ value: number; without: number[] }> {
  const { signal } = bench.context;
  const parts = 'indices' in b ? [a, b] : [a];
  const sums: FeatureAccumulator[] = [];
  try {
    for (const part of parts) sums.push(await accumulate(part, signal));
    const between = () =>
      torch.scope(() => frechetDistance(sums[0].statistics(), 'indices' in b ? sums[1].statistics() : b));
    const value = between();
    const without: number[] = [];
    for (let group = 0; group < groups; group++) {
      const left: FeatureAccumulator[] = [];
      for (const part of parts) left.push(await accumulate(part, signal, group, groups));
      for (const [k, part] of left.entries()) sums[k].merge(part, -1);
      without.push(between());
      for (const [k, part] of left.entries()) {
        sums[k].merge(part);
        part.dispose();
      }
      progressOf(bench, 'Fréchet distance', groups)(group + 1);
      await setImmediate();
    }
    return { value, without };
  } finally {
    for (const sum of sums) sum.dispose();
  }
}
