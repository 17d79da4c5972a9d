/**
 * A rank's share of draws that are made for a whole batch. Every rank draws for all samples from the same stream and keeps
 * its own: so a draw depends on the sample's place in the batch, never on the number of ranks.
 */
import type { Tensor } from '@patch-diffusion/torch';
import type { RandomSource } from './random-source.js';

/** Samples `begin` to `end` (exclusive) of a batch. */
export interface Part {
  readonly begin: number;
  readonly end: number;
}

/**
 * Draws for a batch of `total` samples, and gives those of a part.
 * @param source draws for the whole batch
 */
export function partOf(source: RandomSource, total: number, { begin, end }: Part): RandomSource {
  const drawn = (shape: readonly number[], batchDim: number, draw: (whole: number[]) => Tensor): Tensor => {
    if (shape[batchDim] !== end - begin)
      throw new Error(`internal: a draw of [${shape}] is not one of ${end - begin} samples`);
    const whole = [...shape];
    whole[batchDim] = total;
    return draw(whole).narrow(batchDim, begin, end - begin);
  };
  return {
    rand: (name, shape, batchDim = 0) =>
      drawn(shape, batchDim, (whole) => source.rand(name, whole, batchDim)),
    randn: (name, shape, batchDim = 0) =>
      drawn(shape, batchDim, (whole) => source.randn(name, whole, batchDim)),
    randint: (name, low, high, shape, batchDim = 0) =>
      drawn(shape, batchDim, (whole) => source.randint(name, low, high, whole, batchDim)),
  };
}
