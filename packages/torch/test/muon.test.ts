/** Muon: orthogonal updates for matrices, Adam for the rest. */
import { expect, it } from 'vitest';
import './close.js';
import * as torch from '../src/index.js';
import { Adam, Muon, type Tensor } from '../src/index.js';

const isMatrix = (name: string) => name.startsWith('matrix');

function parameters(): [string, Tensor][] {
  torch.manualSeed(1);
  return [
    ['matrix.tall', torch.randn([24, 6]).setRequiresGrad()],
    ['matrix.conv', torch.randn([6, 4, 3, 3]).to({ memoryFormat: 'channelsLast' }).setRequiresGrad()],
    ['bias', torch.randn([6]).setRequiresGrad()],
  ];
}

function giveGradients(params: readonly [string, Tensor][], seed: number): void {
  torch.manualSeed(seed);
  for (const [, param] of params) param.grad = torch.randn(param.shape).mul(1e-3);
}

it('moves all directions of a matrix alike, at the size of updates of Adam', () => {
  const params = parameters();
  const before = params.map(([, param]) => param.detach().clone());
  giveGradients(params, 2);
  const optimizer = new Muon(params, { lr: 0.1, isMatrix });
  optimizer.step();
  params.slice(0, 2).forEach(([name, param], k) => {
    const step = before[k]!.sub(param.detach()).div(0.1).reshape([param.shape[0]!, -1]);
    const gradient = param.grad!.reshape([param.shape[0]!, -1]);
    const factor = 0.2 * Math.sqrt(Math.max(...step.shape));
    // Singular values near 1, in the singular directions of the gradient (the momentum is the first gradient).
    const [U, , V] = torch.linalgSvd(gradient, false);
    const inDirections = U.t().matmul(step).matmul(V.t()).div(factor);
    const n = inDirections.shape[0]!;
    const values = inDirections.toFloat32Array();
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const value = values[i * n + j]!;
        if (i !== j) expect(Math.abs(value), name).toBeLessThan(1e-3);
        else expect(value, name).toBeGreaterThan(0.6);
        if (i === j) expect(value, name).toBeLessThan(1.3);
      }
    const rms = Math.sqrt(step.square().mean().item());
    expect(rms).toBeGreaterThan(0.12);
    expect(rms).toBeLessThan(0.28);
  });
  optimizer.dispose();
});

it('is the five Newton–Schulz steps of the definition, for several matrices at once and nearly singular ones', () => {
  torch.manualSeed(7);
  const weak = torch
    .randn([8, 1])
    .matmul(torch.randn([1, 40]))
    .add(torch.randn([8, 40]), { alpha: 1e-4 });
  const gradients = [torch.randn([8, 40]), weak, torch.randn([40, 8]), torch.zeros([8, 40])];
  const params = gradients.map(({ shape }, i): [string, Tensor] => [
    `matrix.${i}`,
    torch.zeros(shape).setRequiresGrad(),
  ]);
  params.forEach(([, param], i) => {
    param.grad = gradients[i]!;
  });
  const bias: [string, Tensor] = ['bias', torch.zeros([1]).setRequiresGrad()];
  const optimizer = new Muon([...params, bias], { lr: 1, isMatrix });
  optimizer.step();
  params.forEach(([, param], i) => {
    const gradient = gradients[i]!.to({ dtype: 'float64' });
    let X = gradient.div(gradient.norm().add(1e-7 / 1.95));
    for (let step = 0; step < 5; step++) {
      const gram = X.matmul(X.t());
      const polynomial = gram.mul(-4.775).add(gram.matmul(gram), { alpha: 2.0315 });
      X = X.mul(3.4445).add(polynomial.matmul(X));
    }
    const expected = X.mul(-0.2 * Math.sqrt(40)).to({ dtype: 'float32' });
    // Float32 against float64: five steps multiply small singular values, and their rounding, by up to 3.4445⁵ = 485.
    expect(param.detach()).toBeCloseToTensor(expected, { rtol: 1e-3, atol: 1e-3 });
  });
  optimizer.dispose();
});

it('leaves the rest to Adam, and averages follow all', () => {
  const [params, others] = [parameters(), parameters()];
  const optimizer = new Muon(params, { lr: 0.1, isMatrix });
  const adam = new Adam(others, { lr: 0.1 });
  const averages = params.map(([, param]) => torch.zerosLike(param.detach()));
  for (const seed of [3, 4]) {
    giveGradients(params, seed);
    giveGradients(others, seed);
    optimizer.step(0.05, [{ averages, beta: 0 }]);
    adam.step(0.05);
  }
  expect(params[2]![1].detach().toFloat32Array()).toEqual(others[2]![1].detach().toFloat32Array());
  params.forEach(([, param], i) => {
    expect(averages[i]!.toFloat32Array()).toEqual(param.detach().toFloat32Array());
  });
  expect(optimizer.stepCount).toBe(2);
  optimizer.zeroGrad();
  expect(params.every(([, param]) => param.grad === null)).toBe(true);
  optimizer.dispose();
  adam.dispose();
});

it('goes on from a saved state as if it had not stopped', () => {
  const [params, others] = [parameters(), parameters()];
  const [first, second] = [new Muon(params, { isMatrix }), new Muon(others, { isMatrix })];
  giveGradients(params, 5);
  first.step();
  torch.noGrad(() => {
    others.forEach(([, param], i) => void param.copy_(params[i]![1]));
  });
  second.loadStateDict(first.stateDict());
  for (const [optimizer, own] of [
    [first, params],
    [second, others],
  ] as const) {
    giveGradients(own, 6);
    optimizer.step();
  }
  others.forEach(([, param], i) => {
    expect(param.detach().toFloat32Array()).toEqual(params[i]![1].detach().toFloat32Array());
  });
  expect(() => second.loadStateDict(new Map([...first.stateDict()].slice(1)))).toThrow(/Muon/);
  first.dispose();
  second.dispose();
});

it('moves parameters with gaps in memory as it moves dense ones', () => {
  const [params, others] = [parameters(), parameters()];
  others.forEach(([, param]) => {
    if (param.ndim === 4)
      param.setData(torch.cat([param.detach(), param.detach()], 1).narrow(1, 0, param.shape[1]!));
  });
  const [dense, strided] = [new Muon(params, { isMatrix }), new Muon(others, { isMatrix })];
  for (const seed of [8, 9]) {
    for (const own of [params, others]) giveGradients(own, seed);
    for (const optimizer of [dense, strided]) optimizer.step(0.1);
  }
  others.forEach(([, param], i) => {
    // Two orders of the same sums, and singular values that five steps multiply by up to 485.
    expect(param.detach()).toBeCloseToTensor(params[i]![1].detach(), { rtol: 1e-3, atol: 1e-4 });
  });
  dense.dispose();
  strided.dispose();
});

it('leaves no tensors behind', () => {
  const params = parameters();
  const optimizer = new Muon(params, { isMatrix });
  giveGradients(params, 5);
  const before = torch.liveTensors();
  optimizer.step();
  expect(torch.liveTensors()).toBe(before);
  optimizer.dispose();
});
