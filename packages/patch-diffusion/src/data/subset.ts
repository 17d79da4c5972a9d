/**
 * Choosing some of the images by a seed: the reference's `max_size` rule, and images held out of training.
 */
import { Mt19937 } from '../common/mt19937.js';

/** [0, length) in the order of a seeded shuffle. @param seed integer; taken modulo 2³¹ */
export function shuffled(length: number, seed: number): Int32Array {
  const all = Int32Array.from({ length }, (_, i) => i);
  const modulo = 2 ** 31;
  new Mt19937(((seed % modulo) + modulo) % modulo).shuffle(all);
  return all;
}

/**
 * The `count` of `length` items that a size limit keeps: the first of a seeded shuffle, in ascending order
 * (the reference's rule, so the same seed keeps the same images).
 *
 * @returns ascending indices; all of them when `count ≥ length`
 */
export function chooseSubset(length: number, count: number, seed: number): Int32Array {
  if (count >= length) return Int32Array.from({ length }, (_, i) => i);
  return shuffled(length, seed).slice(0, count).sort();
}

/** Those of [0, length) that are not in `chosen`, ascending. */
export function others(length: number, chosen: Iterable<number>): Int32Array {
  const set = new Set(chosen);
  return Int32Array.from({ length }, (_, i) => i).filter((i) => !set.has(i));
}
