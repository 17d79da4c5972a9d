/**
 * Patch-size schedules (Patch Diffusion, section 3.2): which patch size each accumulation round trains on, and how many
 * images it then takes. Plain numbers, without Node or native imports, so that a browser can use it.
 */
import type { Extent } from './extent.js';

/** One patch size of a schedule. */
export interface PatchSize extends Extent {
  /** Share of the rounds that use this size, 0 … 1. */
  readonly probability: number;
  /** A round with this size takes `multiplier` times the batch, since its patches are cheaper. */
  readonly multiplier: number;
}

/** `stochastic` draws a size for each round; `progressive` goes from small to large over the run. */
export type ScheduleName = 'stochastic' | 'progressive';

/**
 * The paper's sizes: a quarter, half and the whole of each side with probabilities (1 − p)·2/5, (1 − p)·3/5 and p
 * (latents: half and whole, 1 − p and p). Sides are rounded up to what the network can halve.
 * @param realP p, the share of full-size rounds, 0 … 1
 * @param factor both sides of every patch must be multiples of this
 */
export function defaultPatchSizes(image: Extent, realP: number, factor: number, isLatent = false): PatchSize[] {
  const shares: [divisor: number, probability: number][] = isLatent
    ? [
        [2, 1 - realP],
        [1, realP],
      ]
    : [
        [4, ((1 - realP) * 2) / 5],
        [2, ((1 - realP) * 3) / 5],
        [1, realP],
      ];
  const roundUp = (side: number, divisor: number) => Math.ceil(side / divisor / factor) * factor;
  return mergeEqual(
    shares.map(([divisor, probability]) => ({
      height: roundUp(image.height, divisor),
      width: roundUp(image.width, divisor),
      probability,
      multiplier: divisor,
    })),
  );
}

/**
 * Square sizes given by the user, such as `16:0.2,32:0.3,64:0.5`. A side at least as large as the image's longer one
 * means the whole image; the multiplier of a P-pixel patch is (image side / P), as for the paper's sizes.
 */
export function customPatchSizes(image: Extent, sides: ReadonlyMap<number, number>): PatchSize[] {
  const longest = Math.max(image.height, image.width);
  const sizes = [...sides].map(([side, probability]) => ({
    height: Math.min(side, image.height),
    width: Math.min(side, image.width),
    probability,
    multiplier: Math.max(1, Math.round(longest / side)),
  }));
  return mergeEqual(sizes.sort((a, b) => a.height * a.width - b.height * b.width));
}

/** Sizes that rounding made equal become one; the larger keeps its multiplier. */
function mergeEqual(sizes: PatchSize[]): PatchSize[] {
  const merged: PatchSize[] = [];
  for (const size of sizes) {
    const last = merged.at(-1);
    if (last && last.height === size.height && last.width === size.width) {
      merged[merged.length - 1] = { ...size, probability: last.probability + size.probability };
    } else {
      merged.push(size);
    }
  }
  return merged;
}

/** Expected multiplier a = Σ probability · multiplier; an optimiser step counts as ⌊batch · a⌋ images. */
export function meanMultiplier(sizes: readonly PatchSize[]): number {
  return sizes.reduce((sum, size) => sum + size.probability * size.multiplier, 0);
}

/**
 * The size of a stochastic round.
 * @param u a uniform draw from [0, 1)
 */
export function stochasticPatchSize(sizes: readonly PatchSize[], u: number): PatchSize {
  // The bounds are normalised by their total, so that rounding never leaves a gap at the end.
  const bounds = cumulative(sizes);
  const total = bounds[bounds.length - 1];
  return sizes[bounds.findIndex((bound) => u < bound / total)] ?? sizes[sizes.length - 1];
}

/**
 * The size at a point of a progressive run.
 * @param progress share of the run that is done, 0 … 1
 */
export function progressivePatchSize(sizes: readonly PatchSize[], progress: number): PatchSize {
  const bounds = cumulative(sizes);
  return sizes[bounds.findIndex((bound) => bound >= progress)] ?? sizes[sizes.length - 1];
}

function cumulative(sizes: readonly PatchSize[]): number[] {
  let sum = 0;
  return sizes.map(({ probability }) => {
    sum += probability;
    return sum;
  });
}
