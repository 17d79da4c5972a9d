import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { kernelDistance } from '../../src/evaluation/kernel-distance.js';
import { normalRows } from '../helpers/features.js';

/** The definition, pair by pair. */
function byPairs(x: Tensor, y: Tensor): number {
  const rows = (t: Tensor) => {
    const values = t.toTypedArray() as Float64Array;
    const [n, d] = t.shape;
    return Array.from({ length: n }, (_, i) => values.subarray(i * d, (i + 1) * d));
  };
  const kernel = (a: Float64Array, b: Float64Array) =>
    (a.reduce((sum, v, k) => sum + v * b[k], 0) / a.length + 1) ** 3;
  const mean = (a: Float64Array[], b: Float64Array[], isSame: boolean) => {
    const values = a.flatMap((p, i) => b.flatMap((q, j) => (isSame && i === j ? [] : [kernel(p, q)])));
    return values.reduce((sum, v) => sum + v, 0) / values.length;
  };
  const [a, b] = [rows(x), rows(y)];
  return mean(a, a, true) + mean(b, b, true) - 2 * mean(a, b, false);
}

describe('the kernel distance', () => {
  it('is the unbiased estimate over all pairs', async () => {
    const [x, y] = [normalRows(37, 5, 1), normalRows(23, 5, 2).add(0.3)];
    const { value, low, high } = await kernelDistance(x, y);
    expect(value).toBeCloseTo(byPairs(x, y), 10);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
  });

  it('is 0 on average for equal distributions, and grows with a shift', async () => {
    const values: number[] = [];
    for (let k = 0; k < 20; k++)
      values.push((await kernelDistance(normalRows(60, 8, 2 * k), normalRows(60, 8, 2 * k + 1))).value);
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 19);
    expect(Math.abs(mean)).toBeLessThan(3 * (spread / Math.sqrt(20)));
    expect(values.some((v) => v < 0)).toBe(true);
    const far = await kernelDistance(normalRows(60, 8, 1), normalRows(60, 8, 2).add(1));
    expect(far.low).toBeGreaterThan(Math.max(...values));
  });

  it('takes two images on either side, and leaves no tensors behind', async () => {
    const [x, y] = [normalRows(2, 3, 1), normalRows(2, 3, 2)];
    await collectGarbage();
    const before = torch.liveTensors();
    const { value, low, high } = await kernelDistance(x, y);
    expect([low, high]).toEqual([value, value]);
    expect(torch.liveTensors()).toBe(before);
  });
});
