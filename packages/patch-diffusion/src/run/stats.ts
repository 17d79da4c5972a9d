/**
 * Running statistics between two ticks: number, mean and population standard deviation per name, as one JSON
 * line of `stats.jsonl`. Sums are kept in float64. The keys are those of the official trainer (`Loss/loss`,
 * `Progress/kimg`, …) and `Loss/p16`, `Loss/p32`, … for each patch size, whose losses must not be mixed; a patch that is
 * not square is `Loss/p32x16` (width × height).
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Extent, extentName } from '../patches/extent.js';

export interface Stat {
  /** Number of values. */
  readonly num: number;
  readonly mean: number;
  /** Population standard deviation. */
  readonly std: number;
}

/** One line of `stats.jsonl`. */
export type StatsLine = Readonly<Record<string, Stat | number>> & { readonly timestamp: number };

interface Sums {
  num: number;
  sum: number;
  sumOfSquares: number;
}

export class Stats {
  readonly #sums = new Map<string, Sums>();

  /** Adds single values. */
  add(name: string, ...values: readonly number[]): void {
    let sum = 0;
    let sumOfSquares = 0;
    for (const value of values) {
      sum += value;
      sumOfSquares += value * value;
    }
    this.addSums(name, values.length, sum, sumOfSquares);
  }

  /** Adds the moments of a whole tensor, reduced where it lies. */
  addSums(name: string, num: number, sum: number, sumOfSquares: number): void {
    const sums = this.#sums.get(name) ?? { num: 0, sum: 0, sumOfSquares: 0 };
    this.#sums.set(name, sums);
    sums.num += num;
    sums.sum += sum;
    sums.sumOfSquares += sumOfSquares;
  }

  /**
   * Adds the loss of one update under `Loss/loss` and under its patch size.
   *
   * @param num number of loss elements (pixels × channels × images)
   */
  addLoss(patch: Extent, num: number, sum: number, sumOfSquares: number): void {
    this.addSums('Loss/loss', num, sum, sumOfSquares);
    this.addSums(`Loss/p${extentName(patch)}`, num, sum, sumOfSquares);
  }

  /** Statistic since the last {@link take}; NaN mean when nothing was added. */
  get(name: string): Stat {
    const { num, sum, sumOfSquares } = this.#sums.get(name) ?? { num: 0, sum: 0, sumOfSquares: 0 };
    const mean = sum / num;
    // Rounding can push a tiny variance below zero.
    return { num, mean, std: Math.sqrt(Math.max(0, sumOfSquares / num - mean * mean)) };
  }

  /** Mean of each patch size that occurred, by its {@link extentName}. */
  lossPerPatch(): Record<string, number> {
    const out: Record<string, number> = {};
    for (const name of this.#sums.keys()) {
      const size = /^Loss\/p(\d+(?:x\d+)?)$/.exec(name)?.[1];
      if (size !== undefined) out[size] = this.get(name).mean;
    }
    return out;
  }

  /** The line for `stats.jsonl`, and a fresh start. `timestamp` is in Unix seconds. */
  take(timestamp: number = Date.now() / 1000): StatsLine {
    const names = [...this.#sums.keys()].sort(byGroup);
    const entries = names.map((name): [string, Stat] => [name, this.get(name)]);
    this.#sums.clear();
    return Object.assign(Object.fromEntries<Stat | number>(entries), { timestamp });
  }
}

const groups = ['Loss/loss', 'Loss/', 'Progress/', 'Timing/', 'Resources/'];

/** Official order of names by their groups; within a group they stay as they are. */
export const byGroup = (a: string, b: string): number => order(a) - order(b);

function order(name: string): number {
  const index = groups.findIndex((group) => name.startsWith(group));
  return index < 0 ? groups.length : index;
}

/**
 * The lines of a run's `stats.jsonl`, oldest first; none where there is no such file. A line that is damaged, or not
 * yet written to its end, is left out.
 * @example
 * ```ts
 * const lines = await readStats('runs/00000-photos');
 * const kimg = lines.map((line) => (line['Progress/kimg'] as Stat).mean);
 * ```
 */
export async function readStats(runDir: string): Promise<StatsLine[]> {
  const text = await readFile(join(runDir, 'stats.jsonl'), 'utf8').catch(() => '');
  return text
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as StatsLine];
      } catch {
        return [];
      }
    });
}
