/** What every transformation of the augmentation is: a gated draw, an effect, and the label columns that tell of it. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../../common/random-source.js';
import type { AugmentOpName, AugmentShape } from './spec.js';

/** What a transformation knows of the batch and takes its draws from. */
export interface OpContext {
  /** Draws, named `value`, `gate` and so on. */
  readonly random: RandomSource;
  /** Probability that a sample's gate is open; may exceed 1. */
  readonly probability: number;
  /** Samples in the batch, N. */
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly shape: AugmentShape;
}

/**
 * One transformation. T is what its group accumulates: the images themselves (blitting), the map from output to input
 * positions [N, 3, 3] (geometry) or the colour transformation [N, 4, 4].
 */
export interface Op<T> {
  readonly name: AugmentOpName;
  /** @returns the new T and the label columns, [N, columns] */
  apply(target: T, context: OpContext): { readonly target: T; readonly labels: Tensor };
}

/** Zeroes the magnitudes of the samples whose gate stays shut. @param batchDim the dimension that counts the samples */
export function gated(
  value: Tensor,
  { random, probability }: OpContext,
  gateShape = value.shape,
  batchDim = 0,
): Tensor {
  return torch.where(random.rand('gate', gateShape, batchDim).lt(probability), value, 0);
}

/** Uniform on [−1, 1). */
export function symmetric(random: RandomSource, name: string, shape: readonly number[]): Tensor {
  return random.rand(name, shape).mul(2).sub(1);
}

/** [N, …] tensors side by side: [N, columns]. */
export function columns(...values: Tensor[]): Tensor {
  return torch.stack(
    values.map((value) => value.flatten().to({ dtype: 'float32' })),
    1,
  );
}

/** Square matrices from entries that are numbers or one value per sample: [N, rows, rows]. */
export function matrices(rows: readonly (readonly (Tensor | number)[])[], like: Tensor): Tensor {
  const entries = rows
    .flat()
    .map((entry) => (typeof entry === 'number' ? torch.fullLike(like, entry) : entry));
  return torch.stack(entries, -1).reshape([-1, rows.length, rows.length]);
}
