/**
 * Choosing some of the images by a seed: the reference's `max_size` rule, and images held out of training.
 */
import { Mt19937 } from '../common/mt19937.js';

/**
 * The `count` of `length` items that a size limit keeps: the first of a seeded shuffle, in ascending order
 * (the reference's rule, so the same seed keeps the same images).
 *
 * @param seed integer; taken modulo 2³¹
 * @returns ascending indices; all of them when `count ≥ length`
 */
export function chooseSubset(length: number, count: number, seed: number): Int32Array {
  const all = Int32Array.from({ length }, (_, i) => i);
  if (count >= length) return all;
  const modulo = 2 ** 31;
  new Mt19937(((seed % modulo) + modulo) % modulo).shuffle(all);
  return all.slice(0, count).sort();
}

/** Splits [0, length) into `count` held-out items, chosen by `seed`, and the rest; both ascending. */
export function splitHoldout(
  length: number,
  count: number,
  seed: number,
): { train: Int32Array; heldOut: Int32Array } {
  const heldOut = chooseSubset(length, count, seed);
  const held = new Set(heldOut);
  const train = Int32Array.from({ length }, (_, i) => i).filter((i) => !held.has(i));
  return { train, heldOut };
}
