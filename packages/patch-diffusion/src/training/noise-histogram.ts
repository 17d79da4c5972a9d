/**
 * Running means of the unweighted training losses by noise level and patch size: what the choice of noise levels
 * (noise-levels-by-loss.ts) and of their weights (even-weights.ts) look at. A checkpoint keeps them.
 */
import { type Extent, extentName } from '../patches/extent.js';

/** Bins of equal width in ln σ. */
export const LEVEL_BINS = { count: 64, min: Math.log(0.002), max: Math.log(80) } as const;
export const BIN_WIDTH = (LEVEL_BINS.max - LEVEL_BINS.min) / LEVEL_BINS.count;

/** Middle of a bin, ln σ. */
export const binLevel = (bin: number): number => LEVEL_BINS.min + (bin + 0.5) * BIN_WIDTH;

/** Patches that a size must have seen before its losses say anything. */
const MIN_PATCHES = 256;
/** Updates after which a loss counts for 1/e. */
const MEMORY_UPDATES = 800;

/** Sums of unweighted losses and their numbers by bin, float64 [2 · bins], for each patch size by name. */
export type LevelSums = Readonly<Record<string, readonly number[]>>;

/** Sums of losses and numbers of patches by bin. */
export interface LevelLosses {
  readonly sums: Float64Array;
  readonly counts: Float64Array;
}

export class NoiseHistogram {
  #sums = new Map<string, Float64Array>();

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

  /** The losses of a size, or null before enough of its patches were seen. */
  losses(patch: Extent): LevelLosses | null {
    const all = this.#sums.get(extentName(patch));
    if (!all) return null;
    const counts = all.subarray(LEVEL_BINS.count);
    const seen = counts.reduce((a, b) => a + b, 0);
    return seen < MIN_PATCHES ? null : { sums: all.subarray(0, LEVEL_BINS.count), counts };
  }

  get state(): LevelSums {
    return Object.fromEntries(Array.from(this.#sums, ([name, sums]) => [name, [...sums]]));
  }

  set state(saved: LevelSums) {
    this.#sums = new Map(Object.entries(saved).map(([name, sums]) => [name, Float64Array.from(sums)]));
  }
}

/** Mean loss of each bin: empty ones between their neighbours, all slightly smoothed, in logarithms. */
export function meanLosses({ sums, counts }: LevelLosses): Float64Array {
  const { count } = LEVEL_BINS;
  const logs = sums.map((sum, b) => Math.log(sum / counts[b]));
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
