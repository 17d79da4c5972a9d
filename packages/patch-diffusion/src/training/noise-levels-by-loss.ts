/**
 * Where noise levels are drawn in training, for each patch size, from the losses so far. By information (InfoNoise,
 * arXiv 2602.18647): what a level teaches about the data is m(σ)/σ² per ln σ, where m is the unweighted error of the
 * denoiser there; levels are drawn so that density times weight of the loss follows that. And by patch size
 * (sizes-by-noise.ts): small patches get the levels at which they lose little against whole images.
 */
import { DEFAULT_SIGMA_DATA, EDM_NOISE } from '../diffusion/noise-levels.js';
import { type Extent, extentName } from '../patches/extent.js';
import type { PatchSize } from '../patches/schedule.js';
import { BIN_WIDTH, binLevel, LEVEL_BINS, meanLosses, type NoiseHistogram } from './noise-histogram.js';
import { assignLevels } from './sizes-by-noise.js';

/** Below this level the measure diverges for data that is not smooth; it fades out there. */
const GATE = { sigma: 0.2, power: 3 } as const;
/** Share of EDM's distribution that stays, so that no level is forgotten. */
const FLOOR = 0.05;
/** Share of the run that is drawn from EDM's distribution alone. */
const WARM_UP = 0.2;
/** Equally likely steps of the tables that levels are drawn from: so many that the largest levels are not blurred. */
const STEPS = 4096;

export interface LevelOptions {
  /** Of EDM's distribution. */
  readonly pMean?: number;
  readonly pStd?: number;
  readonly sigmaData?: number;
}

/** What the losses decide. */
export interface LevelRule extends LevelOptions {
  /** Levels by information. */
  readonly byInformation: boolean;
  /** Which levels each patch size gets. */
  readonly bySize: boolean;
}

/** ln σ at probabilities 0, 1/n, …, 1. */
export type LevelQuantiles = Float32Array;

export class NoiseLevels {
  constructor(
    readonly histogram: NoiseHistogram,
    readonly rule: LevelRule,
  ) {}

  /**
   * Where levels are drawn in the next update.
   * @param sizes of the update, with their shares
   * @param progress share of the run that is done, 0 … 1
   * @returns a table for a size, or null where EDM's distribution is to be used
   */
  at(sizes: readonly PatchSize[], progress: number): (patch: Extent) => LevelQuantiles | null {
    const { byInformation, bySize } = this.rule;
    const densities = sizes.map((size) => {
      const losses = byInformation && progress >= WARM_UP ? this.histogram.losses(size) : null;
      return losses && informedDensity(meanLosses(losses), this.rule);
    });
    const assigned = bySize ? this.#assigned(sizes, densities) : densities;
    const tables = new Map<string, LevelQuantiles>();
    for (const [i, size] of sizes.entries()) {
      const density = assigned[i];
      if (density) tables.set(extentName(size), quantilesOf(density));
    }
    return (patch) => tables.get(extentName(patch)) ?? null;
  }

  /** The densities of sizes with enough losses to compare. */
  #assigned(
    sizes: readonly PatchSize[],
    densities: readonly (Float64Array | null)[],
  ): (Float64Array | null)[] {
    const known = sizes.flatMap((size, i) => {
      const losses = size.probability > 0 ? this.histogram.losses(size) : null;
      const density = densities[i] ?? edmDensity(this.rule);
      return losses ? [{ i, share: size.probability, losses, density }] : [];
    });
    const assigned = assignLevels(known);
    const result = [...densities];
    for (const [k, { i }] of known.entries()) result[i] = assigned[k];
    return result;
  }
}

/** EDM's distribution of levels, by bin. */
export function edmDensity({ pMean = EDM_NOISE.pMean, pStd = EDM_NOISE.pStd }: LevelOptions): Float64Array {
  return normalised((b) => Math.exp(-0.5 * ((binLevel(b) - pMean) / pStd) ** 2));
}

/**
 * Levels by information: π(ln σ) ∝ g(σ) · m(σ) · σ_d² / (σ² + σ_d²), which EDM's weight turns into g · m / σ².
 * @param losses m of each bin: unweighted mean squared errors, in any unit
 * @param gate whether small levels fade out
 * @returns π and a share of EDM's distribution, by bin
 */
export function informedDensity(
  losses: ArrayLike<number>,
  options: LevelOptions,
  { gate = true, floor = FLOOR }: { readonly gate?: boolean; readonly floor?: number } = {},
): Float64Array {
  const { sigmaData = DEFAULT_SIGMA_DATA } = options;
  const informed = normalised((b) => {
    const sigma = Math.exp(binLevel(b));
    const fade = gate ? sigma ** GATE.power / (sigma ** GATE.power + GATE.sigma ** GATE.power) : 1;
    return (fade * losses[b] * sigmaData ** 2) / (sigma ** 2 + sigmaData ** 2);
  });
  const edm = edmDensity(options);
  return informed.map((p, b) => (1 - floor) * p + floor * edm[b]);
}

/** The table of a density by bin, which is even within bins. */
export function quantilesOf(density: Float64Array): LevelQuantiles {
  const quantiles = new Float32Array(STEPS + 1);
  let [bin, below] = [0, 0];
  for (let step = 0; step <= STEPS; step++) {
    const wanted = step / STEPS;
    while (bin < LEVEL_BINS.count - 1 && below + density[bin] < wanted) below += density[bin++];
    const inBin = density[bin] > 0 ? Math.min(Math.max((wanted - below) / density[bin], 0), 1) : 0;
    quantiles[step] = LEVEL_BINS.min + (bin + inBin) * BIN_WIDTH;
  }
  return quantiles;
}

/** Values of all bins, scaled to the sum 1. */
function normalised(value: (bin: number) => number): Float64Array {
  const values = Float64Array.from({ length: LEVEL_BINS.count }, (_, b) => value(b));
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map((one) => one / sum);
}
