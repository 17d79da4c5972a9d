/** Easy Consistency Tuning: its loss by the formula, and its sampler. */

import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { consistencyLoss } from '../../src/diffusion/consistency-loss.js';
import { createDenoiser, type Denoiser } from '../../src/diffusion/preconditioning.js';
import { float64Math, runStep, type SolverState } from '../../src/diffusion/samplers/array-math.js';
import { chooseSampling, planSampler } from '../../src/diffusion/samplers/index.js';

/** D(x; σ) = f(x, σ), and the levels that it was asked for. */
function denoiserOf(f: (x: Tensor, sigma: Tensor) => Tensor): { denoiser: Denoiser; levels: number[][] } {
  const levels: number[][] = [];
  const forward = (x: Tensor, sigma: Tensor) => {
    levels.push([...sigma.toFloat32Array()]);
    return f(x, sigma);
  };
  return { denoiser: { forward, spec: { network: {} } } as unknown as Denoiser, levels };
}

const images = () => torch.rand([6, 1, 4, 4]).mul(2).sub(1);

/** r(t) as the paper has it. */
const earlier = (t: number, stage: number) =>
  Math.max(0, t * (1 - (1 + 8 / (1 + Math.exp(t))) / 2 ** (stage + 1)));

it.each([
  [0, 0],
  [0.124, 0],
  [0.126, 1],
  [0.5, 4],
  [1, 7],
])('compares two levels, nearer to each other as the run goes on: at %d of the run', (progress, stage) => {
  torch.manualSeed(3);
  const { denoiser, levels } = denoiserOf((x) => x.mul(0.5));
  const y = images();
  const { loss, sigma } = consistencyLoss(denoiser, { images: y }, new TorchRandom(), { progress });
  const [ts, rs] = levels;
  expect([...sigma.toFloat32Array()]).toEqual(ts);
  // The same draws again.
  torch.manualSeed(3);
  images();
  torch.randn([6, 1, 1, 1]);
  const noise = torch.randn([6, 1, 4, 4]);
  const [ys, ns] = [y.toFloat32Array(), noise.toFloat32Array()];
  ts!.forEach((t, n) => {
    const r = earlier(t, stage);
    expect(rs![n]).toBeCloseTo(Math.max(r, 0.002), 4);
    let sum = 0;
    for (let i = 16 * n; i < 16 * (n + 1); i++) {
      const target = r > 0.002 ? 0.5 * (ys[i]! + r * ns[i]!) : ys[i]!;
      sum += (0.5 * (ys[i]! + t * ns[i]!) - target) ** 2;
    }
    const expected = (Math.sqrt(sum / 16 + 0.00054 ** 2) - 0.00054) / (t - r);
    // Every element of a patch has the patch's loss; float32.
    for (const value of loss.toFloat32Array().subarray(16 * n, 16 * (n + 1)))
      expect(Math.abs(value / expected - 1)).toBeLessThan(1e-3);
  });
});

it('is 0 for a network that always finds the image, and only the noisier estimate learns', () => {
  const y = images();
  const perfect = denoiserOf(() => y);
  const { loss } = consistencyLoss(perfect.denoiser, { images: y }, new TorchRandom(), { progress: 0.9 });
  expect(loss.max().item()).toBe(0);

  const weight = torch.tensor([0.5]).setRequiresGrad();
  let calls = 0;
  const { denoiser } = denoiserOf((x) => {
    calls++;
    // The second estimate is the target.
    return calls === 1 ? x.mul(weight) : x.mul(weight).mul(1000);
  });
  consistencyLoss(denoiser, { images: y }, new TorchRandom(), { progress: 1 }).loss.sum().backward();
  expect(weight.grad!.item()).toBeLessThan(0); // towards the larger target
});

it('drops the same features at both levels', () => {
  torch.manualSeed(1);
  const network = {
    type: 'SongUNet',
    imgResolution: 16,
    inChannels: 1,
    outChannels: 1,
    modelChannels: 8,
  } as const;
  const denoiser = createDenoiser({
    type: 'edm',
    network: { ...network, channelMult: [1], dropout: 0.5 },
  }).train();
  const batch = { images: torch.rand([8, 1, 16, 16]) };
  // Without the same dropout, estimates at nearly the same level would differ at random.
  const gap = (progress: number) =>
    torch.noGrad(() => {
      torch.manualSeed(2);
      const { loss, sigma } = consistencyLoss(denoiser, batch, new TorchRandom(), { progress });
      return loss
        .mean([1, 2, 3])
        .toFloat32Array()
        .map((value, n) => value * sigma.toFloat32Array()[n]!);
    });
  const near = gap(1);
  denoiser.eval();
  const undropped = gap(1);
  near.forEach((value, n) => void expect(value).toBeLessThan(20 * undropped[n]! + 1));
  denoiser.dispose();
});

it('samples by jumping to the end and adding noise of the next level', () => {
  const range = { sigmaMin: 0, sigmaMax: Number.POSITIVE_INFINITY, roundSigma: (sigma: number) => sigma };
  const plan = planSampler({ sampler: 'ect' }, range);
  expect([...plan.times]).toEqual([80, expect.closeTo(0.821, 10), 0]);
  let state: SolverState<Float64Array> = { x: Float64Array.of(80) };
  const asked: number[] = [];
  for (let i = 0; i < 2; i++) {
    const step = plan.step(float64Math, i, state, Float64Array.of(2));
    state = runStep(step, ({ x, sigma }) => {
      asked.push(x[0]!, sigma);
      return x.map((value) => value / 10);
    });
  }
  expect(asked.map((value) => Number(value.toFixed(6)))).toEqual([80, 80, 8 + 2 * 0.821, 0.821]);
  expect(state.x[0]).toBeCloseTo((8 + 2 * 0.821) / 10, 10);
});

it('takes two steps where the network recorded another sampler', () => {
  const recorded = { sampler: 'edm', numSteps: 24, sChurn: 12 } as const;
  expect(chooseSampling({ sampler: 'ect' }, recorded)).toEqual({ sampler: 'ect', numSteps: 2, sChurn: 0 });
  expect(chooseSampling({ sampler: 'ect', numSteps: 1 }, recorded).numSteps).toBe(1);
  expect(chooseSampling({}, { sampler: 'ect', numSteps: 3, sChurn: 0 }).numSteps).toBe(3);
});
