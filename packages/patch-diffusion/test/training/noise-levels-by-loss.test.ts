/** Noise levels by the losses so far: the density that the formula gives, and draws that follow it. */
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { addNoise, lossOf } from '../../src/diffusion/losses.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { LEVEL_BINS, NoiseHistogram } from '../../src/training/noise-histogram.js';
import {
  edmDensity,
  informedDensity,
  NoiseLevels,
  quantilesOf,
} from '../../src/training/noise-levels-by-loss.js';
import { gaussianErrors as gaussian, levelSums } from '../helpers/level-losses.js';

const sigmaData = 0.5;
const patch = { height: 8, width: 8, multiplier: 2, probability: 0.4 };
const whole = { height: 16, width: 16, multiplier: 1, probability: 0.6 };
/** The table's value at a probability. */
const at = (quantiles: Float32Array, p: number) => quantiles[Math.round(p * (quantiles.length - 1))];
/** The share of a table below ln σ. */
const below = (quantiles: Float32Array, sigma: number) =>
  quantiles.filter((value) => value < Math.log(sigma)).length / quantiles.length;

describe('the density', () => {
  it('of Gaussian data is symmetric about the standard deviation of the data', () => {
    const quantiles = quantilesOf(informedDensity(gaussian, {}, { gate: false, floor: 0 }));
    const middle = Math.log(sigmaData);
    expect(at(quantiles, 0.5)).toBeCloseTo(middle, 2);
    for (const p of [0.03125, 0.125, 0.25, 0.375])
      expect(at(quantiles, p) + at(quantiles, 1 - p), String(p)).toBeCloseTo(2 * middle, 1);
    // π ∝ (σ σ_d / (σ² + σ_d²))²: with x = ln σ − ln σ_d that is 1 / cosh² x / 4, whose quartile is artanh ½.
    expect(at(quantiles, 0.75) - middle).toBeCloseTo(Math.atanh(0.5), 1);
  });

  it('fades out at small levels, and keeps a share of the usual one', () => {
    const table = (errors: Float64Array, options: { gate?: boolean; floor?: number }) =>
      quantilesOf(informedDensity(errors, {}, options));
    const open = table(gaussian.map(Math.sqrt), { gate: false, floor: 0 });
    const gated = table(gaussian.map(Math.sqrt), { floor: 0 });
    expect(below(gated, 0.05)).toBeLessThan(0.2 * below(open, 0.05));
    const spike = Float64Array.from(gaussian, (_, b) => (b === 60 ? 1e6 : 1e-9));
    expect(below(table(spike, {}), Math.exp(-1.2))).toBeCloseTo(0.025, 1);
  });

  it("EDM's as a table is the normal distribution, far out too", () => {
    const quantiles = quantilesOf(edmDensity({ pMean: -1.2, pStd: 1.2 }));
    // Φ⁻¹ of 0.5, 0.9, 0.99 and 0.999.
    for (const [p, z] of [
      [0.5, 0],
      [0.9, 1.2816],
      [0.99, 2.3263],
      [0.999, 3.0902],
    ])
      expect(at(quantiles, p), String(p)).toBeCloseTo(-1.2 + 1.2 * z, 1);
  });
});

describe('the levels of an update', () => {
  const histogram = new NoiseHistogram();
  histogram.add([
    { patch, levels: levelSums(100) },
    { patch: whole, levels: levelSums(100) },
  ]);
  const sizes = [patch, whole];

  it('are those by information after a fifth of the run, where enough patches of the size were seen', () => {
    const levels = new NoiseLevels(histogram, { byInformation: true, bySize: false });
    expect(levels.at(sizes, 0.1)(patch)).toBeNull();
    const informed = quantilesOf(informedDensity(gaussian, {}));
    const there = levels.at(sizes, 0.5)(patch)!;
    for (const p of [0.1, 0.5, 0.9]) expect(Math.abs(at(there, p) - at(informed, p))).toBeLessThan(0.05);
    expect(levels.at([{ ...patch, width: 12 }], 0.5)({ height: 8, width: 12 })).toBeNull();
  });

  it('do not depend on bins that nothing fell into', () => {
    const sparse = new NoiseHistogram();
    const some = levelSums(100).map((value, k) => ((k % LEVEL_BINS.count) % 3 === 0 ? value : 0));
    sparse.add([{ patch, levels: some }]);
    const [a, b] = [histogram, sparse].map(
      (one) => new NoiseLevels(one, { byInformation: true, bySize: false }).at([patch], 1)(patch)!,
    );
    for (const p of [0.1, 0.3, 0.5, 0.7, 0.9]) expect(Math.abs(at(a, p) - at(b, p))).toBeLessThan(0.3);
  });

  it("are EDM's for each size where patches lack nothing", () => {
    const levels = new NoiseLevels(histogram, { byInformation: false, bySize: true }).at(sizes, 0);
    const edm = quantilesOf(edmDensity({}));
    for (const size of sizes)
      for (const p of [0.01, 0.5, 0.99]) expect(at(levels(size)!, p)).toBeCloseTo(at(edm, p), 4);
  });

  it('by size and information at once: low ones for patches that lack the layout, in sum as for one size', () => {
    const gap = new NoiseHistogram();
    const lacking = gaussian.map((m, b) => (b > 32 ? 2 * m : m));
    gap.add([
      { patch, levels: levelSums(100, lacking) },
      { patch: whole, levels: levelSums(100) },
    ]);
    const levels = new NoiseLevels(gap, { byInformation: true, bySize: true }).at(sizes, 0.5);
    const alone = new NoiseLevels(gap, { byInformation: true, bySize: false }).at(sizes, 0.5);
    expect(below(levels(patch)!, 0.4)).toBeGreaterThan(below(alone(patch)!, 0.4) + 0.2);
    for (const sigma of [0.1, 0.3, 1, 3]) {
      const [together, apart] = [levels, alone].map(
        (of) => 0.4 * below(of(patch)!, sigma) + 0.6 * below(of(whole)!, sigma),
      );
      expect(together, String(sigma)).toBeCloseTo(apart, 2);
    }
  });

  it('are left as they are for sizes that were not seen yet', () => {
    const half = new NoiseHistogram();
    half.add([{ patch, levels: levelSums(100) }]);
    const levels = new NoiseLevels(half, { byInformation: false, bySize: true }).at(sizes, 0.5);
    expect(levels(whole)).toBeNull();
  });
});

it('levels are drawn from the table', () => {
  const denoiser = createDenoiser({
    type: 'edm',
    network: {
      type: 'SongUNet',
      imgResolution: 16,
      inChannels: 1,
      outChannels: 1,
      modelChannels: 4,
      channelMult: [1],
      numBlocks: 1,
    },
  });
  const quantiles = quantilesOf(informedDensity(gaussian, {}));
  const count = 512;
  const drawn = torch.noGrad(() =>
    torch.scope(() => {
      const random = new TorchRandom('cpu', new torch.Generator('cpu', 4));
      const images = torch.zeros([count, 1, 4, 4]);
      const noisy = addNoise({ images }, random, { spec: { type: 'edm' }, quantiles });
      const loss = lossOf(denoiser, noisy, random, { type: 'edm' });
      expect(loss.shape).toEqual([count, 1, 4, 4]);
      return noisy.sigma.log().toFloat32Array().sort();
    }),
  );
  // The largest distance of the two distribution functions, at 99.9 %.
  let distance = 0;
  drawn.forEach((value, k) => {
    distance = Math.max(distance, Math.abs((k + 0.5) / count - below(quantiles, Math.exp(value))));
  });
  expect(distance).toBeLessThan(1.95 / Math.sqrt(count));
  denoiser.dispose();
});
