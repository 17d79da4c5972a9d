import { expect, it } from 'vitest';
import type { Tensor } from '../src/index.js';
import * as torch from '../src/index.js';

/** Parameters with these gradients. */
const withGradients = (grads: Tensor[]): Tensor[] =>
  grads.map((grad) => {
    const parameter = torch.zerosLike(grad).setRequiresGrad();
    parameter.grad = grad;
    return parameter;
  });

it.each(['float32', 'float64'] as const)('is the norm of all gradients, in any memory order: %s', (dtype) => {
  torch.scope(() => {
    torch.manualSeed(1);
    const grads = [[5], [40, 30, 3, 3], [3, 7000], [1]].map((shape) => torch.randn(shape, { dtype }));
    grads[1] = grads[1]!.to({ memoryFormat: 'channelsLast' });
    grads[2] = grads[2]!.narrow(1, 0, 6000); // with gaps
    const expected = Math.sqrt(
      grads.reduce((total, g) => total + g.to({ dtype: 'float64' }).square().sum().item(), 0),
    );
    const parameters = [...withGradients(grads), torch.ones([3]).setRequiresGrad()]; // the last has none
    const before = parameters[1]!.grad!.toTypedArray();
    expect(torch.sanitiseGradients(parameters) / expected).toBeCloseTo(1, 6);
    expect(parameters[1]!.grad!.toTypedArray()).toEqual(before);
    expect(torch.sanitiseGradients(parameters, 0.5) / expected).toBeCloseTo(0.5, 6);
    expect(torch.sanitiseGradients(parameters) / expected).toBeCloseTo(0.5, 6);
    expect(torch.sanitiseGradients([])).toBe(0);
  });
});

it('replaces NaN and infinities, and only those', () => {
  torch.scope(() => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const [a, b] = withGradients([torch.tensor([1, bad, 3]), torch.tensor([-2])]);
      expect(Number.isFinite(torch.sanitiseGradients([a!, b!]))).toBe(false);
      const replaced = Number.isNaN(bad) ? 0 : Math.sign(bad) * 1e5;
      expect([...a!.grad!.toFloat32Array()]).toEqual([1, replaced, 3]);
      expect([...b!.grad!.toFloat32Array()]).toEqual([-2]);
      expect(torch.sanitiseGradients([a!, b!])).toBeCloseTo(Math.hypot(1, replaced, 3, 2), 0);
    }
  });
});

it('does the same without reading the norm', () => {
  torch.scope(() => {
    torch.manualSeed(2);
    const grads = [torch.randn([40, 30]), torch.tensor([1, Number.NaN, Number.NEGATIVE_INFINITY])];
    const [a, b] = [withGradients(grads.map((g) => g.clone())), withGradients(grads)];
    expect(torch.cleanGradients(a).item()).toBe(torch.sanitiseGradients(b));
    for (const [i, { grad }] of a.entries())
      expect(grad!.toFloat32Array()).toEqual(b[i]!.grad!.toFloat32Array());
    expect(torch.cleanGradients(a).item()).toBeCloseTo(torch.sanitiseGradients(b), 0);
    expect(torch.cleanGradients([]).item()).toBe(0);
  });
});

it('a CPU has no graphs', () => {
  expect(torch.hasGraphs('cpu')).toBe(false);
  expect(() => new torch.GraphPool('cpu')).toThrow(torch.TorchError);
});
