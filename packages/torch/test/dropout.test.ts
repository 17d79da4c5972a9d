import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { DType, Tensor } from '../src/index.js';
import * as torch from '../src/index.js';

const dropout = torch.sharedDrawDropout;

const seeded = <T>(seed: number, work: () => T): T => {
  torch.manualSeed(seed);
  return torch.scope(work);
};

/** The same in libtorch's operators: runs that were begun with these random numbers go on with them. */
function composed(x: Tensor, p: number): Tensor {
  const steps = 2 ** 15;
  const dropped = Math.round(p * steps);
  const draws = torch
    .empty([Math.ceil(x.numel / 4)], { dtype: 'int64' })
    .random_()
    .mul_(2);
  const kept = draws
    .view('int16' as DType)
    .asStrided(x.shape, x.strides)
    .ge(2 * dropped - steps);
  return x.mul(kept.to({ dtype: x.dtype }).mul(steps / (steps - dropped)));
}

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

it.each([
  [[2, 3, 5, 7], 'channelsLast'],
  [[1, 1, 1, 3], 'contiguous'],
  [[4, 16, 8, 8], 'channelsLast'],
  [[5, 411], 'contiguous'],
] as const)('gives what its parts give, gradient included: %j %s', (shape, memoryFormat) => {
  seeded(3, () => {
    const x = torch.randn([...shape]).to({ memoryFormat });
    const own = x.detach().setRequiresGrad();
    const other = x.detach().setRequiresGrad();
    const y = seeded(4, () => torch.keep(dropout(own, 0.4)));
    const expected = seeded(4, () => torch.keep(composed(other, 0.4)));
    expect(y.strides).toEqual(x.strides);
    expect(y.toFloat32Array()).toEqual(expected.toFloat32Array());
    const grad = torch.randn([...shape]); // contiguous
    y.backward(grad);
    expected.backward(grad);
    expect(own.grad!.toFloat32Array()).toEqual(other.grad!.toFloat32Array());
    for (const dtype of ['bfloat16', 'float16', 'float64'] as const) {
      const small = seeded(4, () => torch.keep(dropout(x.to({ dtype }), 0.4)));
      expect(small.dtype).toBe(dtype);
      const error = small.to({ dtype: 'float32' }).sub(expected.detach()).abs();
      expect(
        error
          .sub(
            expected
              .detach()
              .abs()
              .mul(2 ** -7),
          )
          .max()
          .item(),
      ).toBeLessThan(1e-5);
      small.dispose();
    }
    for (const tensor of [y, expected]) tensor.dispose();
  });
});

it('follows the seed, takes tensors with gaps, and drops nothing or everything', () => {
  seeded(5, () => {
    const x = torch.ones([3, 67]);
    const first = seeded(3, () => dropout(x, 0.4).toFloat32Array());
    expect(seeded(3, () => dropout(x, 0.4).toFloat32Array())).toEqual(first);
    expect(dropout(x, 0.4).toFloat32Array()).not.toEqual(first);
    expect(dropout(x.narrow(1, 3, 5), 0).toFloat32Array()).toEqual(new Float32Array(15).fill(1));
    expect(dropout(x, 1).toFloat32Array()).toEqual(new Float32Array(201));
    expect(dropout(torch.ones([0]), 0.5).shape).toEqual([0]);
    expect(() => dropout(x, 1.5)).toThrow(/between 0 and 1/);
  });
});
