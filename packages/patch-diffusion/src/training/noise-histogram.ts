/**
 * Noise levels by information (InfoNoise, arXiv 2602.18647): what a level teaches about the data is m(σ)/σ² per ln σ, where
 * m is the unweighted error of the denoiser there. Levels are drawn so that density times weight of the loss follows that,
 * from running means of the training losses; each patch size has its own.
 */
import { DEFAULT_SIGMA_DATA, EDM_NOISE } from '../diffusion/noise-levels.js';
import { type Extent, extentName } from '../patches/extent.js';

/** Bins of equal width in ln σ. */
export const LEVEL_BINS = { count: 64, min: Math.log(0.002), max: Math.log(80) } as const;
const WIDTH = (LEVEL_BINS.max - LEVEL_BINS.min) / LEVEL_BINS.count;

/** Below this level the measure diverges for data that is not smooth; it fades out there. */
const GATE = { sigma: 0.2, power: 3 } as const;
/** Share of EDM's distribution that stays, so that no level is forgotten. */
const FLOOR = 0.05;
/** Share of the run that is drawn from EDM's distribution alone. */
const WARM_UP = 0.2;
/** Patches that a size must have seen. */
const MIN_PATCHES = 256;
/** Updates after which a loss counts for 1/e. */
const MEMORY_UPDATES = 800;
/** Equally likely steps of the table that levels are drawn from. */
const STEPS = 256;

export interface LevelOptions {
  /** Of EDM's distribution. */
  readonly pMean?: number;
  readonly pStd?: number;
  readonly sigmaData?: number;
}

/** Sums of unweighted losses and their numbers by bin, float64 [2 · bins], for each patch size by name. */
export type LevelSums = Readonly<Record<string, readonly number[]>>;

export class NoiseHistogram {
  readonly #options: LevelOptions;
  #sums = new Map<string, Float64Array>();

  constructor(options: LevelOptions) {
    this.#options = options;
  }

  /** Adds the losses of an update. @param losses of its micro-batches; `levels` as in {@link LevelSums} */
  add(losses: readonly { readonly patch: Extent; readonly levels?: ArrayLike<number> }[]): void {
    for (const sums of this.#sums.values())
      for (let k = 0; k < sums.length; k++) sums[k] *= 1 - 1 / MEMORY_UPDATES;
    for (const { patch, levels } of losses) {
      if (!levels) continue;
      const name = extentName(patch);
      const sums = this.#sums.get(name) ?? new Float64Array(levels.length);
      this.#sums.set(name, sums);
      for (let k = 0; k < sums.length; k++) if (Number.isFinite(levels[k])) sums[k] += levels[k];
    }
  }

  /**
   * ln σ at probabilities 0, 1/n, …, 1 for patches of a size; null where EDM's distribution is to be used.
   * @param progress share of the run that is done, 0 … 1
   */
  quantiles(patch: Extent, progress: number): Float32Array | null {
    const sums = this.#sums.get(extentName(patch));
    if (progress < WARM_UP || !sums) return null;
    const { count } = LEVEL_BINS;
    const seen = sums.subarray(count).reduce((a, b) => a + b, 0);
    return seen < MIN_PATCHES ? null : levelQuantiles(meanLosses(sums), this.#options);
  }

  get state(): LevelSums {
    return Object.fromEntries(Array.from(this.#sums, ([name, sums]) => [name, [...sums]]));
  }

  set state(saved: LevelSums) {
    this.#sums = new Map(Object.entries(saved).map(([name, sums]) => [name, Float64Array.from(sums)]));
  }
}

/** Middle of a bin, ln σ. */
export const binLevel = (bin: number): number => LEVEL_BINS.min + (bin + 0.5) * WIDTH;

/** Mean loss of each bin: empty ones between their neighbours, all slightly smoothed, in logarithms. */
function meanLosses(sums: Float64Array): Float64Array {
  const { count } = LEVEL_BINS;
  const logs = Float64Array.from({ length: count }, (_, b) => Math.log(sums[b] / sums[count + b]));
  const known = Array.from(logs.keys()).filter((b) => Number.isFinite(logs[b]));
  for (let b = 0; b < count; b++) {
    if (Number.isFinite(logs[b])) continue;
    const [low, high] = [known.findLast((k) => k < b), known.find((k) => k > b)];
    if (low === undefined || high === undefined) logs[b] = logs[(low ?? high)!];
    else logs[b] = logs[low] + ((logs[high] - logs[low]) * (b - low)) / (high - low);
  }
  for (let round = 0; round < 2; round++) {
    const before = logs.slice();
    for (let b = 1; b < count - 1; b++) logs[b] = (before[b - 1] + 2 * before[b] + before[b + 1]) / 4;
  }
  return logs.map(Math.exp);
}

/**
 * Where levels are drawn: π(ln σ) ∝ g(σ) · m(σ) · σ_d² / (σ² + σ_d²), which EDM's weight turns into g · m / σ².
 * @param losses m of each bin: unweighted mean squared errors, in any unit
 * @param gate whether small levels fade out
 * @returns ln σ at probabilities 0, 1/n, …, 1, of π and a share of EDM's distribution
 */
export function levelQuantiles(
  losses: ArrayLike<number>,
  { pMean = EDM_NOISE.pMean, pStd = EDM_NOISE.pStd, sigmaData = DEFAULT_SIGMA_DATA }: LevelOptions,
  { gate = true, floor = FLOOR }: { readonly gate?: boolean; readonly floor?: number } = {},
): Float32Array {
  const { count } = LEVEL_BINS;
  const bins = Array.from({ length: count }, (_, b) => b);
  const informed = normalised(
    bins.map((b) => {
      const sigma = Math.exp(binLevel(b));
      const fade = gate ? sigma ** GATE.power / (sigma ** GATE.power + GATE.sigma ** GATE.power) : 1;
      return (fade * losses[b] * sigmaData ** 2) / (sigma ** 2 + sigmaData ** 2);
    }),
  );
  const edm = normalised(bins.map((b) => Math.exp(-0.5 * ((binLevel(b) - pMean) / pStd) ** 2)));
  const shares = informed.map((p, b) => (1 - floor) * p + floor * edm[b]);

  const quantiles = new Float32Array(STEPS + 1);
  let [bin, below] = [0, 0];
  for (let step = 0; step <= STEPS; step++) {
    const wanted = step / STEPS;
    while (bin < count - 1 && below + shares[bin] < wanted) below += shares[bin++];
    const inBin = shares[bin] > 0 ? Math.min(Math.max((wanted - below) / shares[bin], 0), 1) : 0;
    quantiles[step] = LEVEL_BINS.min + (bin + inBin) * WIDTH;
  }
  return quantiles;
}

function normalised(values: readonly number[]): number[] {
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map((value) => value / sum);
}
