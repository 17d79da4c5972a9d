/** How often noise levels are drawn. */
import { LEVEL_BINS } from './noise-histogram.js';

/** Patches by noise level. */
export interface LevelCounts {
  /** Bounds of the bins, ln σ, one more than there are bins; levels beyond the ends are in the outer bins. */
  readonly lnSigma: readonly number[];
  readonly counts: readonly number[];
}

/** Numbers of patches by level, of all sizes together, since they were last taken. */
export class LevelCounter {
  #counts = new Array<number>(LEVEL_BINS.count).fill(0);

  /** @param losses of the micro-batches of an update, `levels` as in noise-histogram.ts */
  add(losses: readonly { readonly levels?: ArrayLike<number> }[]): void {
    const { count } = LEVEL_BINS;
    for (const { levels } of losses)
      if (levels) for (let bin = 0; bin < count; bin++) this.#counts[bin] += levels[count + bin];
  }

  /** Begins anew. @returns null where nothing was counted */
  take(): LevelCounts | null {
    const counts = this.#counts;
    const { min, max, count } = LEVEL_BINS;
    const width = (max - min) / count;
    if (counts.every((one) => one === 0)) return null;
    this.#counts = counts.map(() => 0);
    return {
      counts,
      lnSigma: Array.from({ length: counts.length + 1 }, (_, k) => min + k * width),
    };
  }
}
