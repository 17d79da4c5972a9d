/** Weights with which all noise levels and patch sizes contribute alike. */
import * as torch from '@patch-diffusion/torch';
import { Adam } from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { EvenWeights } from '../../src/training/even-weights.js';
import { factorsAt, lossesByLevel } from '../../src/training/loss-by-level.js';
import { binLevel, LEVEL_BINS, NoiseHistogram } from '../../src/training/noise-histogram.js';
import { trainStep } from '../../src/training/step.js';
import { gaussianErrors, levelSums } from '../helpers/level-losses.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

const patch = { height: 8, width: 8, multiplier: 2, probability: 0.25 };
const whole = { height: 16, width: 16, multiplier: 1, probability: 0.75 };
const sizes = [patch, whole];

describe('the factors', () => {
  const patchErrors = gaussianErrors.map((m, b) => m * (1 + b / 32));
  const histogram = new NoiseHistogram();
  histogram.add([
    { patch, levels: levelSums(200, patchErrors) },
    { patch: whole, levels: levelSums(200) },
  ]);
  const factors = new EvenWeights(histogram).at(sizes);
  const edm = (b: number) => 1 / Math.exp(2 * binLevel(b)) + 1 / 0.25;

  it('make the expected loss of all levels and sizes the same', () => {
    const inner = Array.from({ length: LEVEL_BINS.count - 4 }, (_, k) => k + 2);
    const losses = inner.flatMap((b) => [
      factors(patch)![b] * edm(b) * patchErrors[b],
      factors(whole)![b] * edm(b) * gaussianErrors[b],
    ]);
    for (const loss of losses) expect(loss / losses[0]).toBeCloseTo(1, 1);
    // The weighted error of the best denoiser of Gaussian data is 1 at every level; of the patches, (1 + b / 32) on average.
    const mean = 0.25 * (1 + (LEVEL_BINS.count - 1) / 2 / 32) + 0.75;
    expect(losses[0]).toBeCloseTo(mean, 1);
  });

  it('are 1 for sizes that were not seen often enough', () => {
    const fresh = new NoiseHistogram();
    expect(new EvenWeights(fresh).at(sizes)(patch)).toBeNull();
    fresh.add([{ patch, levels: levelSums(200) }]);
    const some = new EvenWeights(fresh).at(sizes);
    expect(some(whole)).toBeNull();
    for (const factor of some(patch)!) expect(factor).toBeCloseTo(1, 1);
  });
});

it('losses are counted, and factors found, in the bin of their level', () => {
  torch.scope(() => {
    const sigma = torch.tensor([3, 3, 40].map((b) => Math.exp(binLevel(b)))).reshape([3, 1, 1, 1]);
    const losses = torch.tensor([1, 3, 5]).reshape([3, 1, 1, 1]).expand([3, 2, 4, 4]);
    const counted = lossesByLevel(losses, sigma).toFloat32Array();
    expect([counted[3], counted[40]]).toEqual([4, 5]);
    expect([counted[LEVEL_BINS.count + 3], counted[LEVEL_BINS.count + 40]]).toEqual([2, 1]);
    expect(counted.reduce((a, b) => a + b, 0)).toBe(12);
    const table = Float32Array.from({ length: LEVEL_BINS.count }, (_, b) => b);
    const found = factorsAt(table, sigma);
    expect([found.shape, [...found.toFloat32Array()]]).toEqual([
      [3, 1, 1, 1],
      [3, 3, 40],
    ]);
    // Levels beyond the bins are in the outermost.
    expect(factorsAt(table, torch.tensor([1e-9, 1e9])).toFloat32Array()).toEqual(Float32Array.of(0, 63));
  });
});

it('an update follows the factors, and reports the loss without them', async () => {
  const source = {
    ...{ height: 8, width: 8, channels: 3, labelDim: 0, latents: null, labels: () => new Float32Array() },
    gather: () => new Uint8Array(2 * 3 * 8 * 8).fill(200),
  };
  const update = async (factor: number | null) => {
    const denoiser = tinyDenoiser(5).requiresGrad(true);
    const state = {
      ...{ denoiser, ema: tinyDenoiser(5), nimg: 0, step: 0 },
      optimizer: new Adam(denoiser.namedParameters(), { lr: 1e-3 }),
    };
    const microBatch = {
      ...{ patch: { height: 8, width: 8 }, indices: [0, 1], weight: 1 },
      random: new TorchRandom('cpu', new torch.Generator('cpu', 3)),
      factors: factor === null ? null : new Float32Array(LEVEL_BINS.count).fill(factor),
    };
    const { gradNorm, losses } = await trainStep(
      state,
      { microBatches: [microBatch], nimg: 2 },
      {
        ...{ lr: 1e-3, lrRampupKimg: 0, emaHalflifeKimg: 1, emaRampupRatio: null, lossScaling: 1 },
        ...{ source, device: 'cpu', lossNorm: 'sum', loss: { type: 'edm' }, augment: null },
        augmentAt: 'patch',
      },
    );
    for (const part of [denoiser, state.ema, state.optimizer]) part.dispose();
    return { gradNorm, loss: losses[0].sum };
  };
  const [plain, third] = [await update(null), await update(1 / 3)];
  expect(third.gradNorm / plain.gradNorm).toBeCloseTo(1 / 3, 4);
  expect(third.loss).toBe(plain.loss);
});
