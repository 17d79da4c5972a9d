import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { dropout } from '../../src/networks/dropout.js';

const seeded = <T>(seed: number, work: () => T): T => {
  torch.manualSeed(seed);
  return torch.scope(work);
};

it('drops each element with probability p, and keeps the mean', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.01, max: 0.9, noNaN: true }), fc.nat(1000), (p, seed) => {
      seeded(seed, () => {
        const count = 40_000;
        const y = dropout(torch.ones([count]), p).toFloat32Array();
        // Four numbers come from one draw: each place among the four counts by itself.
        for (let place = 0; place < 4; place++) {
          const zeros = y.filter((value, i) => i % 4 === place && value === 0).length;
          const n = count / 4;
          // Five standard deviations, and the rounding of p.
          expect(Math.abs(zeros - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)) + n * 2 ** -16);
        }
        const kept = y.filter((value) => value !== 0);
        expect(new Set(kept).size).toBe(1);
        expect(kept[0]! * (1 - p)).toBeCloseTo(1, 3);
      });
    }),
    { numRuns: 20 },
  );
});

it('keeps the memory order, lets the gradient through where it lets values through, and follows the seed', () => {
  seeded(3, () => {
    const x = torch.ones([2, 3, 5, 7]).to({ memoryFormat: 'channelsLast' }).setRequiresGrad();
    const y = dropout(x, 0.4);
    expect(y.strides).toEqual(x.strides);
    y.sum().backward();
    expect(x.grad!.toFloat32Array()).toEqual(y.toFloat32Array());
    const again = seeded(3, () => dropout(x, 0.4).toFloat32Array());
    expect(again).toEqual(y.toFloat32Array());
    expect(dropout(x, 0.4).toFloat32Array()).not.toEqual(again);
    expect(dropout(x.to({ dtype: 'bfloat16' }), 0.4).dtype).toBe('bfloat16');
  });
});
