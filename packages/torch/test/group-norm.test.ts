import { describe, expect, it } from 'vitest';
import type { Tensor } from '../src/index.js';
import * as torch from '../src/index.js';
import './close.js';

type Order = 'contiguous' | 'channelsLast';
interface Case {
  readonly shape: number[];
  readonly groups: number;
  readonly order: Order;
  readonly dtype: 'float32' | 'bfloat16';
  readonly silu: boolean;
  /** Which of add, scale and shift there are, and for how many samples. */
  readonly parts?: readonly ('add' | 'scale' | 'shift')[];
  readonly rows?: number;
}

/** The operator's definition in libtorch's operators, in float64. */
function composed(x: Tensor, { groups, silu }: Case, inputs: Record<string, Tensor>): Tensor {
  const spread = (t: Tensor) => t.reshape([t.shape[0]!, -1, ...x.shape.slice(2).map(() => 1)]);
  let y = torch.groupNorm(
    inputs.add ? x.add(spread(inputs.add)) : x,
    groups,
    inputs.weight,
    inputs.bias,
    1e-5,
  );
  if (inputs.scale) y = y.mul(spread(inputs.scale).add(1));
  if (inputs.shift) y = y.add(spread(inputs.shift));
  return silu ? y.silu() : y;
}

/** Largest absolute difference over the largest absolute value. */
function distance(a: Tensor, b: Tensor): number {
  const [u, v] = [a, b].map((t) => t.detach().to({ dtype: 'float64' }));
  return u!.sub(v!).abs().max().item() / Math.max(v!.abs().max().item(), 1e-3);
}

/** Compares result and all gradients; returns the distances by name. */
function compare(test: Case): Record<string, number> {
  return torch.scope(() => {
    torch.manualSeed(7);
    const { shape, order, dtype, parts = [], rows = shape[0]! } = test;
    const x = torch
      .randn(shape)
      .mul(2)
      .add(3)
      .to({ dtype, memoryFormat: shape.length === 4 ? order : 'contiguous' });
    const C = shape[1]!;
    const inputs: Record<string, Tensor> = { weight: torch.randn([C]), bias: torch.randn([C]) };
    for (const part of parts) inputs[part] = torch.randn([rows, C]);
    const own = [x, ...Object.values(inputs)].map((t) => t.detach().setRequiresGrad(true));
    const names = Object.keys(inputs);
    const ownInputs = Object.fromEntries(names.map((name, i) => [name, own[i + 1]!]));
    const { weight, bias, ...options } = ownInputs;
    const y = torch.groupNormAct(own[0]!, test.groups, weight!, bias!, { ...options, silu: test.silu });
    expect(y.dtype).toBe(dtype);
    expect(y.strides).toEqual(own[0]!.strides);
    const grad = torch.randn(shape).to({ dtype });
    y.backward(grad);

    const wide = own.map((t) => t.detach().to({ dtype: 'float64' }).setRequiresGrad(true));
    const wideInputs = Object.fromEntries(names.map((name, i) => [name, wide[i + 1]!]));
    const reference = composed(wide[0]!, test, wideInputs);
    reference.backward(grad.to({ dtype: 'float64' }));
    const distances: Record<string, number> = { y: distance(y, reference) };
    for (const [i, name] of ['x', ...names].entries())
      distances[name] = distance(own[i]!.grad!, wide[i]!.grad!);
    return distances;
  });
}

const shapes: [number[], number][] = [
  [[2, 64, 16, 16], 16],
  [[3, 24, 5, 7], 6],
  [[2, 6, 3, 3], 3],
  [[1, 80, 20, 9], 20],
  [[4, 32, 1, 1], 8],
  [[2, 12, 40], 4],
];

describe('groupNormAct', () => {
  const cases = shapes.flatMap(([shape, groups]) =>
    (['contiguous', 'channelsLast'] as const).flatMap((order) =>
      (['float32', 'bfloat16'] as const).flatMap((dtype) =>
        [false, true].map((silu): Case => ({ shape, groups, order, dtype, silu })),
      ),
    ),
  );
  it.each(cases)('equals its parts, gradients included: $shape $order $dtype silu $silu', (test) => {
    const tolerance = test.dtype === 'float32' ? 5e-6 : 1e-2;
    for (const parts of [[], ['add'], ['scale', 'shift'], ['add', 'scale', 'shift']] as const) {
      for (const [name, value] of Object.entries(compare({ ...test, parts })))
        expect(value, `${name} with ${parts}`).toBeLessThan(tolerance);
    }
  });

  it('takes one row of add, scale and shift for all samples', () => {
    const test = {
      shape: [3, 16, 4, 4],
      groups: 4,
      order: 'channelsLast',
      dtype: 'float32',
      silu: true,
    } as const;
    const distances = compare({ ...test, shape: [...test.shape], parts: ['add', 'scale', 'shift'], rows: 1 });
    for (const value of Object.values(distances)) expect(value).toBeLessThan(5e-6);
  });

  it('agrees with finite differences', () => {
    torch.scope(() => {
      torch.manualSeed(3);
      const x = torch.randn([2, 8, 3, 2]).to({ memoryFormat: 'channelsLast' }).detach().setRequiresGrad(true);
      const [weight, bias] = [torch.randn([8]), torch.randn([8])];
      const direction = torch.randn(x.shape);
      const f = (input: Tensor) =>
        torch
          .groupNormAct(input, 2, weight, bias, { silu: true })
          .to({ dtype: 'float64' })
          .mul(direction)
          .sum();
      f(x).backward();
      const step = torch.randn(x.shape);
      const h = 1e-2;
      const slope = torch.noGrad(
        () => (f(x.add(step.mul(h))).item() - f(x.sub(step.mul(h))).item()) / (2 * h),
      );
      expect(x.grad!.mul(step).sum().item()).toBeCloseTo(slope, 2);
    });
  });

  it('takes slices and transposed tensors, and gradients in another memory order', () => {
    torch.scope(() => {
      const whole = torch.randn([2, 20, 6, 6]).to({ memoryFormat: 'channelsLast' });
      for (const x of [whole.narrow(1, 3, 8), whole.narrow(1, 0, 8).transpose(2, 3)]) {
        const expected = torch.groupNorm(x, 4).silu();
        expect(distance(torch.groupNormAct(x, 4, null, null, { silu: true }), expected)).toBeLessThan(5e-6);
      }
    });
  });

  it('keeps its digits far from zero, as libtorch does', () => {
    torch.scope(() => {
      for (const memoryFormat of ['contiguous', 'channelsLast'] as const) {
        const x = torch.randn([2, 16, 12, 12]).add(1000).to({ memoryFormat });
        const expected = torch.groupNorm(x.to({ dtype: 'float64' }), 4);
        expect(distance(torch.groupNormAct(x, 4, null, null), expected)).toBeLessThan(1e-4);
      }
    });
  });

  it('passes NaN and infinities on', () => {
    torch.scope(() => {
      const x = torch.zeros([1, 4, 2, 2]);
      x.select(1, 0).fill_(Number.NaN);
      const y = torch.groupNormAct(x, 2, null, null, { silu: true });
      expect([...y.isnan().to({ dtype: 'uint8' }).toTypedArray()].map(Number)).toEqual([
        ...Array(8).fill(1),
        ...Array(8).fill(0),
      ]);
    });
  });

  it('is made of libtorch operators for other types', () => {
    torch.scope(() => {
      const x = torch.randn([2, 8, 3, 3], { dtype: 'float64' }).setRequiresGrad(true);
      const shift = torch.randn([2, 8]);
      const y = torch.groupNormAct(x, 4, null, null, { silu: true, shift });
      expect(y.dtype).toBe('float64');
      const expected = torch
        .groupNorm(x, 4)
        .add(shift.to({ dtype: 'float64' }).reshape([2, 8, 1, 1]))
        .silu();
      expect(distance(y, expected)).toBeLessThan(1e-12);
      y.sum().backward();
      expect(x.grad).not.toBeNull();
    });
  });

  it('takes a batch of none', () => {
    torch.scope(() =>
      expect(torch.groupNormAct(torch.zeros([0, 8, 2, 2]), 2, null, null).shape).toEqual([0, 8, 2, 2]),
    );
  });

  it('says what is wrong with its arguments', () => {
    torch.scope(() => {
      const x = torch.zeros([2, 6, 2, 2]);
      expect(() => torch.groupNormAct(x, 4, null, null)).toThrow(/6 channels do not make 4 equal groups/);
      expect(() => torch.groupNormAct(x, 2, torch.ones([5]), null)).toThrow(/weight and bias must be \[C\]/);
      expect(() => torch.groupNormAct(x, 2, null, null, { add: torch.zeros([3, 6]) })).toThrow(/add must be/);
    });
  });
});
