import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { Mt19937 } from '../../src/common/mt19937.js';
import {
  Descriptors,
  laplacianPyramid,
  slicedDistance,
  slicedWasserstein,
} from '../../src/evaluation/sliced-wasserstein.js';
import { memoryPixels, waves } from '../helpers/pixels.js';

const shape = [3, 32, 32];
const of = (images: Uint8Array[]) => Descriptors.of(memoryPixels(images, shape), images.length);

describe('the Laplacian pyramid', () => {
  it('of a flat image is flat: 0 but for the last level', () => {
    const [fine, coarse] = laplacianPyramid(torch.full([1, 3, 32, 32], 7), 2);
    expect(fine.abs().max().item()).toBeLessThan(1e-5);
    expect(coarse.shape).toEqual([1, 3, 16, 16]);
    expect(coarse.sub(7).abs().max().item()).toBeLessThan(1e-5);
  });

  it('takes sides that are not even', () => {
    const levels = laplacianPyramid(torch.rand([2, 1, 35, 33]), 2);
    expect(levels.map((level) => level.shape)).toEqual([
      [2, 1, 35, 33],
      [2, 1, 18, 17],
    ]);
  });
});

describe('the sliced Wasserstein distance', () => {
  it('is 0 for the same images, and small for others of the same kind', async () => {
    const [a, same, other] = [await of(waves(16, 1)), await of(waves(16, 1)), await of(waves(16, 2))];
    expect(slicedDistance(a, same)).toBe(0);
    const { value, low, high, n } = await slicedWasserstein(a, other);
    expect(n).toBe(16);
    expect(low).toBeLessThanOrEqual(value);
    expect(high).toBeGreaterThan(value);
    for (const d of [a, same, other]) d.dispose();
  });

  it('grows with the noise in the images, and exceeds what real images score', async () => {
    const random = new Mt19937(3);
    const noisy = (share: number) =>
      waves(16, 2).map((image) =>
        image.map((value) => Math.max(0, Math.min(255, value + share * (random.randomDouble() - 0.5)))),
      );
    const real = await of(waves(16, 1));
    const distances: number[] = [];
    for (const share of [0, 1, 3, 8]) {
      const set = await of(noisy(share));
      distances.push(slicedDistance(real, set));
      set.dispose();
    }
    expect([...distances].sort((a, b) => a - b)).toEqual(distances);
    expect(distances[3]).toBeGreaterThan(1.3 * distances[0]);
    real.dispose();
  });

  it('leaves no tensors behind', async () => {
    await collectGarbage();
    const before = torch.liveTensors();
    const [a, b] = [await of(waves(8, 1)), await of(waves(8, 2))];
    await slicedWasserstein(a, b);
    a.dispose();
    b.dispose();
    expect(torch.liveTensors()).toBe(before);
  });
});
