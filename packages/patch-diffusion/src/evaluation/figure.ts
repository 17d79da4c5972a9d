/** Figures with a 95 % interval: the bootstrap for means over images, groups left out for the others. */
import { Mt19937 } from '../common/mt19937.js';

/** One figure of an evaluation. */
export interface Figure {
  readonly value: number;
  /** Ends of the 95 % interval. */
  readonly low: number;
  readonly high: number;
  /** Images (for sample metrics: samples) that it was measured on. */
  readonly n: number;
  /** What real images score in place of the samples; null where that has no meaning or could not be measured. */
  readonly floor: number | null;
  /** Number of images on either side of the floor, where it is not `n`. */
  readonly floorN?: number;
}

/** Ends of a 95 % interval. */
export type Interval = Pick<Figure, 'low' | 'high'>;

const RESAMPLES = 1000;
const SEED = 20_230_425;

/**
 * Percentile bootstrap of a statistic of items that are drawn with replacement.
 * @param count number of items
 * @param statistic of items given by their indices
 */
export function bootstrap(count: number, statistic: (indices: Int32Array) => number): Interval {
  const random = new Mt19937(SEED);
  const indices = new Int32Array(count);
  const values = new Float64Array(RESAMPLES);
  for (let k = 0; k < RESAMPLES; k++) {
    for (let i = 0; i < count; i++) indices[i] = Math.floor((random.nextUint32() / 2 ** 32) * count);
    values[k] = statistic(indices);
  }
  values.sort();
  return { low: quantile(values, 0.025), high: quantile(values, 0.975) };
}

/** The mean of values, one per image, with its interval. */
export function meanFigure(values: ArrayLike<number>, floor: number | null = null): Figure {
  const all = Int32Array.from(values, (_, i) => i);
  const statistic = (indices: Int32Array) => meanAt(values, indices);
  return { value: statistic(all), ...bootstrap(values.length, statistic), n: values.length, floor };
}

/** Mean of the values at some indices. */
export function meanAt(values: ArrayLike<number>, indices: Int32Array): number {
  let sum = 0;
  for (const index of indices) sum += values[index];
  return sum / indices.length;
}

/** Groups of images, one of which is left out at a time. */
export const GROUPS = 10;

/**
 * Interval of a statistic whose value grows when images are drawn twice, so that the bootstrap would be off (distances
 * between distributions): the images fall into groups, and the statistic is computed without each of them in turn (the
 * delete-a-group jackknife).
 * @param without the statistic with one group left out
 * @param lowest the statistic is never below it
 */
export function jackknife(value: number, without: readonly number[], lowest = 0): Interval {
  const groups = without.length;
  const mean = without.reduce((sum, v) => sum + v, 0) / groups;
  const variance = ((groups - 1) / groups) * without.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  const half = 1.96 * Math.sqrt(variance);
  return { low: Math.max(Math.min(lowest, value), value - half), high: value + half };
}

/** Linearly interpolated quantile of sorted values. */
function quantile(sorted: Float64Array, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}
