import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import './close.js';

/** Central differences of the sum of f's elements. */
function numericGradient(f: (x: torch.Tensor) => torch.Tensor, x: torch.Tensor): torch.Tensor {
  const step = 1e-6;
  const data = x.detach().toTypedArray() as Float64Array;
  const gradient = new Float64Array(data.length);
  const value = (values: Float64Array): number =>
    torch.scope(() =>
      f(torch.tensor(values, { shape: x.shape }))
        .sum()
        .item(),
    );
  for (let i = 0; i < data.length; i++) {
    const [up, down] = [data.slice(), data.slice()];
    up[i] += step;
    down[i] -= step;
    gradient[i] = (value(up) - value(down)) / (2 * step);
  }
  return torch.tensor(gradient, { shape: x.shape });
}

describe('backward', () => {
  torch.manualSeed(1);
  const f64 = { dtype: 'float64' } as const;
  const weight = torch.randn([4, 2, 3, 3], f64);
  const scale = torch.randn([2], f64);
  const mixing = torch.randn([3, 4], f64);
  const cases: [string, number[], (x: torch.Tensor) => torch.Tensor][] = [
    ['conv2d', [1, 2, 4, 4], (x) => torch.conv2d(x, weight, null, 1, 1)],
    ['groupNorm', [2, 2, 3], (x) => torch.groupNorm(x, 1, scale, scale).square()],
    ['silu', [5], (x) => x.silu()],
    ['softmax', [2, 4], (x) => x.softmax(1).square()],
    ['matmul', [2, 3], (x) => x.matmul(mixing).tanh()],
    ['bilinear upsampling', [1, 1, 3, 3], (x) => torch.upsampleBilinear2d(x, [5, 5], false).square()],
    ['index and cat', [4], (x) => torch.cat([x.slice(0, 1, 3), x.mul(2)]).pow(3)],
    ['var', [3, 3], (x) => x.var(1)],
  ];
  for (const [name, shape, f] of cases) {
    it(`of ${name} agrees with finite differences`, () => {
      torch.scope(() => {
        const x = torch.randn(shape, f64).setRequiresGrad();
        f(x).sum().backward();
        expect(x.grad!).toBeCloseToTensor(numericGradient(f, x), { rtol: 1e-5, atol: 1e-6 });
      });
    });
  }

  it('accumulates, and null clears', () => {
    torch.scope(() => {
      const x = torch.tensor([1, 2]).setRequiresGrad();
      expect(x.grad).toBeNull();
      x.square().sum().backward();
      x.square().sum().backward();
      expect(x.grad!).toBeCloseToTensor([4, 8]);
      x.grad = null;
      expect(x.grad).toBeNull();
      x.grad = torch.ones([2]);
      x.sum().backward();
      expect(x.grad!).toBeCloseToTensor([2, 2]);
      expect(() => {
        x.grad = torch.ones([3]);
      }).toThrow(/float32\[3\] cannot be the gradient of float32\[2\]/);
    });
  });

  it('takes a gradient, keeps graphs, and goes twice', () => {
    torch.scope(() => {
      const x = torch.tensor([2, 3]).setRequiresGrad();
      const y = x.pow(3);
      y.backward(torch.tensor([1, 10]), { retainGraph: true });
      expect(x.grad!).toBeCloseToTensor([12, 270]);
      const [first] = torch.grad([y.sum()], [x], { createGraph: true });
      const [second] = torch.grad([first!.sum()], [x]);
      expect(second!).toBeCloseToTensor([12, 18]);
      const z = torch.ones([1]).setRequiresGrad();
      expect(torch.grad([x.sum()], [z], { allowUnused: true })).toEqual([null]);
    });
  });

  it('explains its errors', () => {
    torch.scope(() => {
      expect(() => torch.ones([2]).setRequiresGrad().mul(2).backward()).toThrow(
        /^backward: grad can be implicitly created only for scalar outputs \(self: float32\[2\]\)/,
      );
      expect(() => torch.ones([]).backward()).toThrow(/does not require grad/);
      const x = torch.ones([1]).setRequiresGrad();
      expect(() => x.mul(2).setRequiresGrad(false)).toThrow(/use detach\(\)/);
    });
  });
});

describe('modes', () => {
  it('noGrad and inferenceMode record nothing and end with the function', () => {
    torch.scope(() => {
      const x = torch.ones([1]).setRequiresGrad();
      expect(torch.noGrad(() => x.mul(2)).requiresGrad).toBe(false);
      expect(torch.inferenceMode(() => x.mul(2)).requiresGrad).toBe(false);
      expect(torch.noGrad(() => torch.enableGrad(() => x.mul(2))).requiresGrad).toBe(true);
      expect(() =>
        torch.noGrad(() => {
          throw new Error('mine');
        }),
      ).toThrow('mine');
      expect(torch.isGradEnabled()).toBe(true);
      expect(x.mul(2).requiresGrad).toBe(true);
      expect(x.mul(2).detach().requiresGrad).toBe(false);
    });
  });
});
