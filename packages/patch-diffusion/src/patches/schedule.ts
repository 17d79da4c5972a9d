/**
 * Patch-size schedules (Patch Diffusion, section 3.2): which patch size each micro-batch of an update trains on, and
 * how many images it then takes. Plain numbers, without Node or native imports, so that a browser can use it.
 */
import type { Extent } from './extent.js';

/** One patch size of a schedule. */
export interface PatchSize extends Extent {
  /** Share of the micro-batches that use this size, 0 … 1. */
  readonly probability: number;
  /** A micro-batch of this size takes `multiplier` times the images, since its patches are cheaper. */
  readonly multiplier: number;
}

/**
 * - `stochastic` (the paper's): each micro-batch draws a size.
 * - `progressive` (the paper's): from small to large over the run.
 * - `stratified`: each update is split over all sizes in fixed proportions. It has the same expected gradient as
 *   `stochastic`, a smaller variance, and every update costs the same.
 * - `annealed`: stochastic, while the share of whole images moves over the run.
 */
export const SCHEDULES = ['stochastic', 'progressive', 'stratified', 'annealed'] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

/** How the share of whole images moves from `from` to `to` in the `annealed` schedule. */
export interface Annealing {
  readonly from: number;
  readonly to: number;
  readonly shape: 'linear' | 'cosine';
  /** Share of the run, from its start, over which it moves; then it stays. 1 by default. */
  readonly over?: number;
}

/** A schedule with what it needs. */
export interface PatchSchedule {
  readonly name: ScheduleName;
  /** From small to large; the last is the whole image. */
  readonly sizes: readonly PatchSize[];
  /** For `annealed`. */
  readonly annealing?: Annealing;
}

/** One forward and backward pass of an update (gradient accumulation). */
export interface PlannedMicroBatch {
  readonly patch: PatchSize;
  /** Number of patches. */
  readonly count: number;
  /** Share in the update's gradient; all micro-batches of an update sum to 1. */
  readonly weight: number;
}

/** What one update trains on. */
export interface UpdatePlan {
  readonly microBatches: readonly PlannedMicroBatch[];
  /** Images that the update counts as: batch · expected multiplier. */
  readonly nimg: number;
}

/**
 * The paper's sizes: a quarter, half and the whole of each side with probabilities (1 − p)·2/5, (1 − p)·3/5 and p
 * (latents: half and whole, 1 − p and p). Sides are rounded up to what the network can halve.
 * @param realP p, the share of whole images, 0 … 1
 * @param factor both sides of every patch must be multiples of this
 * @example
 * ```ts
 * const sizes = defaultPatchSizes({ height: 64, width: 64 }, 0.5, 8); // 16, 32 and 64 px with 0.2, 0.3 and 0.5
 * ```
 */
export function defaultPatchSizes(
  image: Extent,
  realP: number,
  factor: number,
  isLatent = false,
): PatchSize[] {
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
 * @example
 * ```ts
 * const image = { height: 64, width: 64 };
 * const sizes = customPatchSizes(image, new Map([[16, 0.2], [32, 0.3], [64, 0.5]]));
 * ```
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

/**
 * Expected multiplier a = Σ probability · multiplier; an optimiser step counts as ⌊batch · a⌋ images.
 * @example
 * ```ts
 * const sizes = defaultPatchSizes({ height: 64, width: 64 }, 0.5, 8);
 * const a = meanMultiplier(sizes); // 0.2 · 4 + 0.3 · 2 + 0.5 · 1
 * ```
 */
export function meanMultiplier(sizes: readonly PatchSize[]): number {
  return sizes.reduce((sum, size) => sum + size.probability * size.multiplier, 0);
}

/**
 * Plans an update.
 * @param batch images per update, at full size
 * @param batchGpu images per micro-batch, at full size; divides `batch`
 * @param progress share of the run that is done, 0 … 1
 * @param uniform draws from [0, 1)
 * @example
 * ```ts
 * const sizes = defaultPatchSizes({ height: 64, width: 64 }, 0.5, 8);
 * const plan = planUpdate({ name: 'stochastic', sizes }, { batch: 64, batchGpu: 16 }, 0, Math.random);
 * for (const { patch, count } of plan.microBatches) console.log(`${count} patches of ${patch.width} px`);
 * ```
 */
export function planUpdate(
  schedule: PatchSchedule,
  { batch, batchGpu }: { readonly batch: number; readonly batchGpu: number },
  progress: number,
  uniform: () => number,
): UpdatePlan {
  const accumulation = batch / batchGpu;
  const sizes = sizesAt(schedule, progress);
  const nimg = batch * meanMultiplier(sizes);
  const repeat = (choose: () => PatchSize): PlannedMicroBatch[] =>
    Array.from({ length: accumulation }, () => {
      const patch = choose();
      return { patch, count: batchGpu * patch.multiplier, weight: 1 / accumulation };
    });
  switch (schedule.name) {
    case 'stochastic':
    case 'annealed':
      return { microBatches: repeat(() => drawPatchSize(sizes, uniform())), nimg };
    case 'progressive':
      return { microBatches: repeat(() => sizes[0]), nimg };
    case 'stratified':
      return {
        microBatches: sizes.flatMap((patch) => stratifiedMicroBatches(patch, batch, batchGpu)),
        nimg,
      };
  }
}

/** The sizes that updates use at a point of the run, with their probabilities there. */
export function sizesAt({ name, sizes, annealing }: PatchSchedule, progress: number): PatchSize[] {
  if (name === 'annealed') return withFullShare(sizes, annealedShare(annealing!, progress));
  return name === 'progressive' ? [{ ...progressivePatchSize(sizes, progress), probability: 1 }] : [...sizes];
}

/**
 * The patches of one size in an update: as many as a stochastic update has of it on average, whatever `batchGpu` is, in
 * micro-batches that are no larger than a stochastic one.
 */
function stratifiedMicroBatches(patch: PatchSize, batch: number, batchGpu: number): PlannedMicroBatch[] {
  const { probability, multiplier } = patch;
  if (probability === 0) return [];
  const total = Math.max(1, Math.round(batch * probability * multiplier));
  const parts = Math.ceil(total / (batchGpu * multiplier));
  return Array.from({ length: parts }, (_, i) => {
    const count = Math.floor((total * (i + 1)) / parts) - Math.floor((total * i) / parts);
    return { patch, count, weight: (probability * count) / total };
  });
}

/** The size that a uniform draw u from [0, 1) means. */
export function drawPatchSize(sizes: readonly PatchSize[], u: number): PatchSize {
  // The bounds are normalised by their total, so that rounding never leaves a gap at the end.
  const bounds = cumulative(sizes);
  const total = bounds[bounds.length - 1];
  return sizes[bounds.findIndex((bound) => u < bound / total)] ?? sizes[sizes.length - 1];
}

/** The size at a point of a progressive run: the first whose cumulative probability reaches it. */
export function progressivePatchSize(sizes: readonly PatchSize[], progress: number): PatchSize {
  const bounds = cumulative(sizes);
  return sizes[bounds.findIndex((bound) => bound >= progress)] ?? sizes[sizes.length - 1];
}

/** The share of whole images at a point of an annealed run. */
export function annealedShare({ from, to, shape, over = 1 }: Annealing, progress: number): number {
  const done = Math.min(Math.max(progress / over, 0), 1);
  return from + (to - from) * (shape === 'linear' ? done : (1 - Math.cos(Math.PI * done)) / 2);
}

/** Gives the largest size the share p; the others keep their proportions. */
function withFullShare(sizes: readonly PatchSize[], p: number): PatchSize[] {
  const smaller = sizes.slice(0, -1);
  const total = smaller.reduce((sum, { probability }) => sum + probability, 0);
  const rescaled = smaller.map((size) => ({
    ...size,
    probability: (1 - p) * (total > 0 ? size.probability / total : 1 / smaller.length),
  }));
  return [...rescaled, { ...sizes[sizes.length - 1], probability: smaller.length ? p : 1 }];
}

function cumulative(sizes: readonly PatchSize[]): number[] {
  let sum = 0;
  return sizes.map(({ probability }) => {
    sum += probability;
    return sum;
  });
}
