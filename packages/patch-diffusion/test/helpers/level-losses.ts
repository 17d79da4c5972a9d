/** Losses by noise level, as a training of Gaussian data would give them. */
import { binLevel, LEVEL_BINS } from '../../src/training/noise-histogram.js';

const SIGMA_DATA = 0.5;

/** Error of the best denoiser of Gaussian data, by bin. */
export const gaussianErrors = Float64Array.from({ length: LEVEL_BINS.count }, (_, b) => {
  const variance = Math.exp(2 * binLevel(b));
  return (variance * SIGMA_DATA ** 2) / (variance + SIGMA_DATA ** 2);
});

/** Sums and counts of `count` patches in each bin, as a micro-batch reports them. */
export const levelSums = (count: number, errors: Float64Array = gaussianErrors): number[] => [
  ...errors.map((m) => m * count),
  ...errors.map(() => count),
];
