/** Some of the images of a set of features, and what is measured on them in memory. */
import type { Tensor } from '@patch-diffusion/torch';
import { chooseSubset, others } from '../../data/subset.js';
import type { Bench } from '../bench.js';
import type { FeatureSet, Features } from './feature-set.js';

export interface Part {
  readonly set: FeatureSet;
  readonly indices: Int32Array;
}

export const all = (set: FeatureSet): Part => ({ set, indices: chooseSubset(set.count, set.count, 0) });

/** At most `count` of a part, spread over it. */
export function some({ set, indices }: Part, count: number): Part {
  return { set, indices: chooseSubset(indices.length, count, 0).map((k) => indices[k]) };
}

/** Reads parts into memory, float64 [N, D] each, and frees them afterwards. */
export async function withTensors<T>(
  parts: readonly Part[],
  use: (tensors: Tensor[]) => Promise<T>,
): Promise<T> {
  const tensors: Tensor[] = [];
  try {
    for (const { set, indices } of parts) tensors.push(await set.take(indices));
    return await use(tensors);
  } finally {
    for (const tensor of tensors) tensor.dispose();
  }
}

/**
 * Real images in place of samples, at most `n`, and those that they are compared with: held-out and training images, else
 * two halves of the same set. Null where there are too few.
 */
export async function floorPair(
  { reals, options }: Bench,
  features: Features,
  n: number,
): Promise<{ readonly other: Part; readonly real: Part } | null> {
  const real = await features.real();
  if (real === null) return null;
  if (reals?.isHeldOut && reals.training) {
    const other = await (options.real === 'training' ? features.judged() : features.training());
    return other === null || other.count < 2 ? null : { other: some(all(other), n), real: all(real) };
  }
  const half = Math.floor(real.count / 2);
  if (half < 2) return null;
  const first = chooseSubset(real.count, half, 0);
  const second = { set: real, indices: others(real.count, first) };
  return { other: some(second, n), real: { set: real, indices: first } };
}
