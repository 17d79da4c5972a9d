import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import './close.js';

const numbers = (x: torch.Tensor): number[] => [...x.to({ dtype: 'float64' }).toTypedArray()].map(Number);

describe('overloads', () => {
  it('takes tensors and numbers', () => {
    torch.scope(() => {
      const x = torch.tensor([1, 2]);
      const y: torch.Tensor | number = torch.tensor([10, 20]);
      expect(numbers(x.add(y))).toEqual([11, 22]);
      expect(numbers(x.add(y, { alpha: 2 }))).toEqual([21, 42]);
      expect(numbers(x.add(1))).toEqual([2, 3]);
      expect(numbers(torch.sub(x, 1, { alpha: 2 }))).toEqual([-1, 0]);
      expect(numbers(x.pow(2))).toEqual([1, 4]);
      expect(numbers(torch.pow(2, x))).toEqual([2, 4]);
      expect(numbers(x.lt(2))).toEqual([1, 0]);
      expect(numbers(torch.where(x.gt(1), 5, x))).toEqual([1, 5]);
      expect(numbers(torch.where(x.gt(1), x, 0))).toEqual([0, 2]);
      expect(numbers(x.clamp(null, 1.5))).toEqual([1, 1.5]);
      expect(numbers(x.clamp(torch.tensor([0, 3])))).toEqual([1, 3]);
    });
  });

  it('tells random_(), random_(to) and random_(from, to) apart', () => {
    torch.scope(() => {
      const range = (x: torch.Tensor) => [x.min().item(), x.max().item()];
      const x = torch.zeros([1000]);
      expect(range(x.random_(10))).toEqual([0, 9]);
      expect(range(x.random_(5, 8))).toEqual([5, 7]);
      expect(range(x.random_())[1]).toBeGreaterThan(1000);
    });
  });

  it('tells orders of matrix norms apart', () => {
    torch.scope(() => {
      const x = torch.tensor([
        [3, 0],
        [0, 4],
      ]);
      expect(torch.linalgMatrixNorm(x).item()).toBeCloseTo(5);
      expect(torch.linalgMatrixNorm(x, 'fro').item()).toBeCloseTo(5);
      expect(torch.linalgMatrixNorm(x, 2).item()).toBeCloseTo(4);
    });
  });

  it('takes null for a default in the middle', () => {
    torch.scope(() => {
      const x = torch.arange(0, 3, null, { dtype: 'float32' });
      expect(x.dtype).toBe('float32');
      expect(numbers(x)).toEqual([0, 1, 2]);
    });
  });

  it('tells max(), max(dim) and max(other) apart', () => {
    torch.scope(() => {
      const x = torch.tensor([
        [1, 5],
        [7, 2],
      ]);
      expect(x.max().item()).toBe(7);
      const [values, indices] = x.max(1);
      expect(numbers(values)).toEqual([5, 7]);
      expect(numbers(indices)).toEqual([1, 0]);
      expect(x.max(1, true)[0].shape).toEqual([2, 1]);
      expect(numbers(x.max(torch.full([2, 2], 4)))).toEqual([4, 5, 7, 4]);
    });
  });

  it('reduces over nothing, one or several dimensions', () => {
    torch.scope(() => {
      const x = torch.arange(24, { dtype: 'float32' }).reshape([2, 3, 4]);
      expect(x.sum().item()).toBe(276);
      expect(x.sum([1, 2]).shape).toEqual([2]);
      expect(x.mean(0, true).shape).toEqual([1, 3, 4]);
      expect(x.sum(null, null, { dtype: 'float64' }).dtype).toBe('float64');
      expect(x.std(null, { correction: 0 }).item()).toBeCloseTo(Math.sqrt((24 ** 2 - 1) / 12), 5);
      expect(x.var([0, 1], { keepdim: true }).shape).toEqual([1, 1, 4]);
      expect(x.any().item()).toBe(1);
      expect(x.split(2, 1).map((part) => part.shape[1])).toEqual([2, 1]);
      expect(x.split([1, 2], 1).map((part) => part.shape[1])).toEqual([1, 2]);
    });
  });

  it('draws normals for every mix of tensors and numbers', () => {
    torch.scope(() => {
      const zero = torch.zeros([3]);
      expect(torch.normal(0, 1, [2, 3]).shape).toEqual([2, 3]);
      expect(numbers(torch.normal(torch.ones([3]), zero))).toEqual([1, 1, 1]);
      expect(numbers(torch.normal(5, zero))).toEqual([5, 5, 5]);
      expect(torch.normal(zero, 2).shape).toEqual([3]);
      const generator = new torch.Generator('cpu', 3);
      const a = torch.bernoulli(torch.full([20], 0.5), { generator });
      const b = torch.full([20], 0.5).bernoulli({ generator: generator.manualSeed(3) });
      expect(a.equal(b)).toBe(true);
      expect(numbers(torch.zeros([4]).bernoulli(1))).toEqual([1, 1, 1, 1]);
    });
  });
});

describe('arguments', () => {
  it('keeps integers integer and does not let values choose the type of full()', () => {
    torch.scope(() => {
      expect(torch.tensor([1], { dtype: 'int64' }).mul(2).dtype).toBe('int64');
      expect(torch.tensor([1], { dtype: 'int64' }).mul(2.5).dtype).toBe('float32');
      expect(torch.full([2], 1).dtype).toBe('float32');
      expect(torch.full([2], 1, { dtype: 'int32' }).dtype).toBe('int32');
      expect(torch.arange(3).dtype).toBe('int64');
      expect(
        torch
          .tensor([1], { dtype: 'int64' })
          .add(2n ** 60n)
          .toTypedArray(),
      ).toEqual(new BigInt64Array([2n ** 60n + 1n]));
      expect(Object.is(torch.zeros([1]).mul(-0).item(), -0)).toBe(true);
    });
  });

  it('takes a number for int[2], strings for named integers, null for defaults', () => {
    torch.scope(() => {
      const x = torch.randn([1, 2, 5, 5]);
      const w = torch.randn([4, 1, 3, 3]);
      expect(torch.conv2d(x, w, null, 2, 1, null, 2).shape).toEqual([1, 4, 3, 3]);
      expect(torch.conv2d(x, w, null, 1, 'same', 1, 2).shape).toEqual([1, 4, 5, 5]);
      expect(x.pad([1, 1, 0, 0], 'reflect').shape).toEqual([1, 2, 5, 7]);
      expect(torch.mseLoss(x, x.add(2), 'sum').item()).toBeCloseTo(200, 3);
      expect(x.contiguous({ memoryFormat: 'channelsLast' }).isContiguous('channelsLast')).toBe(true);
      expect(x.index([null, torch.tensor([1], { dtype: 'int64' })]).shape).toEqual([1, 1, 5, 5]);
    });
  });

  it('returns this from in-place operators', () => {
    torch.scope(() => {
      const x = torch.ones([2]);
      expect(x.add_(1).mul_(3)).toBe(x);
      expect(numbers(x)).toEqual([6, 6]);
      expect(torch.nanToNum_(x)).toBe(x);
    });
  });

  it('takes and returns lists', () => {
    torch.scope(() => {
      const [a, b] = [torch.tensor([1, 2]), torch.tensor([3, 4])];
      expect(numbers(torch.cat([a, b]))).toEqual([1, 2, 3, 4]);
      expect(torch.stack([a, b], 1).shape).toEqual([2, 2]);
      torch._foreachMul_([a, b], 2);
      torch._foreachAdd_([a, b], [b, a], { alpha: 10 });
      expect(numbers(a)).toEqual([62, 84]);
      expect(torch._foreachNorm([a, b]).length).toBe(2);
      expect(torch.meshgrid([a, b], { indexing: 'ij' }).map((grid) => grid.shape)).toEqual([
        [2, 2],
        [2, 2],
      ]);
      const many = Array.from({ length: 300 }, () => torch.ones([1]));
      torch._foreachAdd_(many, 1);
      expect(many.every((x) => x.item() === 2)).toBe(true);
    });
  });
});

describe('values', () => {
  it('computes a convolution as its definition does (property)', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 3, max: 6 }),
        fc.integer({ min: 0, max: 1 }),
        (channels, kernels, side, padding) => {
          torch.scope(() => {
            const x = torch.randn([1, channels, side, side], { dtype: 'float64' });
            const w = torch.randn([kernels, channels, 3, 3], { dtype: 'float64' });
            const y = torch.conv2d(x, w, null, 1, padding);
            const patches = torch.im2col(x, [3, 3], [1, 1], [padding, padding], [1, 1]);
            const expected = w.reshape([kernels, -1]).matmul(patches).reshape(y.shape);
            expect(y).toBeCloseToTensor(expected, { rtol: 1e-10, atol: 1e-10 });
          });
        },
      ),
      { numRuns: 20 },
    );
  });

  it('normalises groups to mean 0 and variance 1', () => {
    torch.scope(() => {
      const x = torch.randn([2, 8, 4, 4]).mul(3).add(1);
      const y = torch.groupNorm(x, 2).reshape([2, 2, -1]);
      expect(y.mean(2)).toBeCloseToTensor(torch.zeros([2, 2]), { atol: 1e-5 });
      expect(y.var(2, { correction: 0 })).toBeCloseToTensor(torch.ones([2, 2]), { atol: 1e-3 });
    });
  });

  it('agrees with JavaScript on elementwise functions (property)', () => {
    const functions: [(x: torch.Tensor) => torch.Tensor, (x: number) => number][] = [
      [torch.exp, Math.exp],
      [torch.sin, Math.sin],
      [torch.tanh, Math.tanh],
      [torch.floor, Math.floor],
      [torch.log1p, Math.log1p],
    ];
    fc.assert(
      fc.property(fc.array(fc.double({ min: -0.9, max: 20, noNaN: true }), { minLength: 1 }), (values) => {
        torch.scope(() => {
          const x = torch.tensor(values, { dtype: 'float64' });
          for (const [f, reference] of functions) {
            expect(f(x)).toBeCloseToTensor(values.map(reference), { rtol: 1e-12, atol: 1e-12 });
          }
        });
      }),
      { numRuns: 25 },
    );
  });
});

describe('hasOp', () => {
  it('knows names of both spellings, overloads and devices', () => {
    expect(torch.hasOp('conv2d')).toBe(true);
    expect(torch.hasOp('groupNorm')).toBe(true);
    expect(torch.hasOp('group_norm')).toBe(true);
    expect(torch.hasOp('add.Tensor')).toBe(true);
    expect(torch.hasOp('add.Nothing')).toBe(false);
    expect(torch.hasOp('noSuchOperator')).toBe(false);
    expect(torch.hasOp('conv2d', 'cpu')).toBe(true);
  });

  it('goes with a clear error when the operator is called all the same', () => {
    torch.scope(() => {
      const q = torch.randn([1, 2, 4, 8]);
      if (torch.hasOp('scaledDotProductAttention')) {
        expect(torch.scaledDotProductAttention(q, q, q).shape).toEqual([1, 2, 4, 8]);
      } else {
        expect(() => torch.scaledDotProductAttention(q, q, q)).toThrow(/lacks this operator/);
      }
    });
  });

  it('binds arguments by name, so that what an older libtorch lacks only fails when it is given', () => {
    torch.scope(() => {
      const list = [torch.ones([4])];
      expect(torch._foreachNorm(list, 2)[0]?.item()).toBe(2);
      if (torch.version().torch.startsWith('1.')) {
        expect(() => torch._foreachNorm(list, 2, 'float64')).toThrow(/has no argument 'dtype'/);
      } else {
        expect(torch._foreachNorm(list, 2, 'float64')[0]?.dtype).toBe('float64');
      }
    });
  });
});
