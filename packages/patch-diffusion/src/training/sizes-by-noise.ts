/**
 * Which noise levels each patch size trains on (ours). At a low level a pixel's neighbourhood says all there is to know, and
 * a small patch teaches as much as a whole image; at a high one the layout of the whole image counts. How much a patch
 * lacks there is its context gap κ(σ, s) = 1 − m(σ, whole) / m(σ, s), of the unweighted errors m.
 *
 * Sizes and levels are drawn jointly, from ∝ a(s, σ) · exp(−κ(σ, s) / κ₀) with the factors a that leave every size its
 * share and every level its density. So an update costs what the schedule says, all levels are trained on as before, and
 * only who gets which changes: this is an entropic transport plan (Cuturi 2013), found by scaling rows and columns in turns.
 */
import { LEVEL_BINS, type LevelLosses } from './noise-histogram.js';

/** κ₀: a patch with this gap is used e times less often than one without. */
const SCALE = 0.1;
/** Standard deviation over which gaps are smoothed, in bins. */
const SMOOTHING_BINS = 2.5;
/** So many patches without a gap are added to each bin: where few were seen, sizes are taken to be equally good. */
const PRIOR_PATCHES = 4;
/** Share that is drawn independently of size, so that the gaps can be told everywhere. */
const FLOOR = 0.05;
const MAX_ROUNDS = 500;
/** Rounds end when no share is off by more than this part of it. */
const TOLERANCE = 1e-6;

/** A patch size of an update. */
export interface SizeLevels {
  /** Share of the size. */
  readonly share: number;
  readonly losses: LevelLosses;
  /** Its levels by bin as they would be drawn without the others. */
  readonly density: Float64Array;
}

/**
 * Shares the levels out among patch sizes.
 * @param sizes from small to large; the gaps are those to the last
 * @returns the density of levels of each size, by bin
 */
export function assignLevels(sizes: readonly SizeLevels[]): Float64Array[] {
  if (sizes.length < 2) return sizes.map(({ density }) => density);
  const whole = sizes[sizes.length - 1];
  const gaps = sizes.map((size) => contextGap(size.losses, whole.losses));
  return coupled(sizes, gaps);
}

/**
 * κ(σ, s) by bin, in [−1, 1]: 0 where a patch's error is that of the whole image, 1 where it is far above.
 * @param losses of the patch size
 * @param whole those of whole images
 */
export function contextGap(losses: LevelLosses, whole: LevelLosses): Float64Array {
  const { count } = LEVEL_BINS;
  // Ratios are smoothed, not losses: these rise steeply with the level, and sizes have their patches at different ones.
  const logRatio = new Float64Array(count);
  const weight = new Float64Array(count);
  for (let b = 0; b < count; b++) {
    const [n, all] = [losses.counts[b], whole.counts[b]];
    const ratio = Math.log(losses.sums[b] / n) - Math.log(whole.sums[b] / all);
    if (!Number.isFinite(ratio)) continue;
    logRatio[b] = ratio;
    weight[b] = (n * all) / (n + all);
  }
  return Float64Array.from({ length: count }, (_, b) => {
    let [sum, total] = [0, PRIOR_PATCHES];
    for (let k = 0; k < count; k++) {
      const near = weight[k] * Math.exp(-0.5 * ((k - b) / SMOOTHING_BINS) ** 2);
      sum += near * logRatio[k];
      total += near;
    }
    return Math.max(1 - Math.exp(-sum / total), -1);
  });
}

/**
 * The joint distribution of sizes and levels, as the density of levels of each size.
 * @param gaps κ of each size by bin
 */
export function coupled(
  sizes: readonly Pick<SizeLevels, 'share' | 'density'>[],
  gaps: readonly Float64Array[],
  { scale = SCALE, floor = FLOOR }: { readonly scale?: number; readonly floor?: number } = {},
): Float64Array[] {
  const total = sizes.reduce((sum, { share }) => sum + share, 0);
  const shares = sizes.map(({ share }) => share / total);
  const bins = Array.from({ length: LEVEL_BINS.count }, (_, b) => b);
  const levels = bins.map((b) => sum(sizes, ({ density }, i) => shares[i] * density[b]));
  const joint = sizes.map(({ density }, i) =>
    density.map((p, b) => shares[i] * p * Math.exp(-gaps[i][b] / scale)),
  );
  for (let round = 0; round < MAX_ROUNDS; round++) {
    for (const b of bins) {
      const now = sum(joint, (levelsOfSize) => levelsOfSize[b]);
      if (now > 0) for (const levelsOfSize of joint) levelsOfSize[b] *= levels[b] / now;
    }
    let isOff = false;
    for (const [i, levelsOfSize] of joint.entries()) {
      const factor = shares[i] / sum(bins, (b) => levelsOfSize[b]);
      isOff ||= Math.abs(factor - 1) > TOLERANCE;
      for (const b of bins) levelsOfSize[b] *= factor;
    }
    if (!isOff) break;
  }
  return joint.map((levelsOfSize, i) =>
    levelsOfSize.map((p, b) => (1 - floor) * (p / shares[i]) + floor * sizes[i].density[b]),
  );
}

function sum<T>(items: readonly T[], value: (item: T, index: number) => number): number {
  let total = 0;
  for (const [i, item] of items.entries()) total += value(item, i);
  return total;
}
