/** Noise levels by information: the density that the formula gives, and draws that follow it. */
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { lossAtLevels } from '../../src/diffusion/losses.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { binLevel, LEVEL_BINS, levelQuantiles, NoiseHistogram } from '../../src/training/noise-histogram.js';

const sigmaData = 0.5;
/** Error of the best denoiser of Gaussian data. */
const gaussian = Float64Array.from({ length: LEVEL_BINS.count }, (_, b) => {
  const variance = Math.exp(2 * binLevel(b));
  return (variance * sigmaData ** 2) / (variance + sigmaData ** 2);
});
const patch = { height: 8, width: 8 };

describe('the density', () => {
  it('of Gaussian data is symmetric about the standard deviation of the data', () => {
    const quantiles = levelQuantiles(gaussian, {}, { gate: false, floor: 0 });
    const middle = Math.log(sigmaData);
    expect(quantiles[128]).toBeCloseTo(middle, 2);
    for (const k of [8, 32, 64, 96])
      expect(quantiles[k] + quantiles[256 - k], String(k)).toBeCloseTo(2 * middle, 1);
    // π ∝ (σ σ_d / (σ² + σ_d²))²: with x = ln σ − ln σ_d that is 1 / cosh² x / 4, whose quartile is artanh ½.
    expect(quantiles[192] - middle).toBeCloseTo(Math.atanh(0.5), 1);
  });

  it('fades out at small levels, and keeps a share of the usual one', () => {
    const below = (quantiles: Float32Array, level: number) =>
      quantiles.filter((value) => value < Math.log(level)).length / quantiles.length;
    const open = levelQuantiles(gaussian.map(Math.sqrt), {}, { gate: false, floor: 0 });
    const gated = levelQuantiles(gaussian.map(Math.sqrt), {}, { floor: 0 });
    expect(below(gated, 0.05)).toBeLessThan(0.2 * below(open, 0.05));
    const spike = Float64Array.from(gaussian, (_, b) => (b === 60 ? 1e6 : 1e-9));
    expect(below(levelQuantiles(spike, {}), Math.exp(-1.2))).toBeCloseTo(0.025, 1);
  });
});

describe('a histogram', () => {
  const levels = (count: number) => [...gaussian.map((m) => m * count), ...gaussian.map(() => count)];

  it('waits for a fifth of the run and for enough patches of the size', () => {
    const histogram = new NoiseHistogram({});
    histogram.add([{ patch, levels: levels(1) }]);
    expect(histogram.quantiles(patch, 0.5)).toBeNull();
    histogram.add([{ patch, levels: levels(9) }]);
    expect(histogram.quantiles(patch, 0.1)).toBeNull();
    expect(histogram.quantiles({ height: 16, width: 16 }, 0.5)).toBeNull();
    expect(histogram.quantiles(patch, 0.5)).toHaveLength(257);
  });

  it('fills bins that nothing fell into', () => {
    const histogram = new NoiseHistogram({});
    const sparse = levels(40).map((value, k) => ((k % LEVEL_BINS.count) % 3 === 0 ? value : 0));
    histogram.add([{ patch, levels: sparse }]);
    const full = new NoiseHistogram({});
    full.add([{ patch, levels: levels(40) }]);
    const [a, b] = [histogram, full].map((one) => one.quantiles(patch, 1)!);
    a.forEach((value, k) => {
      expect(Math.abs(value - b[k])).toBeLessThan(0.3);
    });
  });

  it('follows changes, and is the same after its state was restored', () => {
    const histogram = new NoiseHistogram({});
    histogram.add([{ patch, levels: levels(1000) }]);
    const before = histogram.quantiles(patch, 1)!;
    for (let k = 0; k < 4000; k++)
      histogram.add([{ patch, levels: levels(1).map((v, i) => (i < 32 ? v * 100 : v)) }]);
    expect(histogram.quantiles(patch, 1)![128]).toBeLessThan(before[128] - 0.2);
    const copy = new NoiseHistogram({});
    copy.state = JSON.parse(JSON.stringify(histogram.state));
    expect(copy.quantiles(patch, 1)).toEqual(histogram.quantiles(patch, 1));
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
  const quantiles = levelQuantiles(gaussian, {});
  const count = 512;
  const drawn = torch.noGrad(() =>
    torch.scope(() => {
      const random = new TorchRandom('cpu', new torch.Generator('cpu', 4));
      const images = torch.zeros([count, 1, 4, 4]);
      const { loss, sigma } = lossAtLevels(denoiser, { images }, random, {
        spec: { type: 'edm' },
        quantiles,
      });
      expect(loss.shape).toEqual([count, 1, 4, 4]);
      return sigma.log().toFloat32Array().sort();
    }),
  );
  // The largest distance of the two distribution functions, at 99.9 %.
  let distance = 0;
  drawn.forEach((value, k) => {
    const place = quantiles.findIndex((q) => q > value);
    const p =
      place < 1
        ? place === 0
          ? 0
          : 1
        : (place - 1 + (value - quantiles[place - 1]) / (quantiles[place] - quantiles[place - 1])) / 256;
    distance = Math.max(distance, Math.abs((k + 0.5) / count - p));
  });
  expect(distance).toBeLessThan(1.95 / Math.sqrt(count));
  denoiser.dispose();
});
