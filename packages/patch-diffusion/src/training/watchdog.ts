/**
 * Notices what spoils a training: gradients that are not finite, losses far above the usual, data that does not come.
 * Each is reported with the images concerned; what repeats ends the run, whose last good state is named.
 */
import { UserError } from '../common/errors.js';
import { oneLine } from '../common/printable.js';
import type { DataSet } from '../data/types.js';
import { extentName } from '../patches/extent.js';
import type { TrainEventListener } from './events.js';
import type { MicroBatch } from './gradient.js';
import type { StepResult } from './step.js';

/** Updates in a row with a non-finite gradient after which a run gives up. */
const MAX_BAD_STEPS = 20;

/** A loss of so many times the usual one of its patch size is a spike: batches differ, but not by that. */
const SPIKE_FACTOR = 10;
/** Losses of a patch size from which the usual one is known. */
const WARM_UP = 50;
/** Weight of a new loss in the usual one. */
const UPDATE_RATE = 0.02;
/** A run with so many spikes in {@link SPIKE_WINDOW} updates does not recover. */
const MAX_SPIKES = 25;
const SPIKE_WINDOW = 50;

/** A rank that takes so many times as long as the others lags. */
const LAG_FACTOR = 2;
/** Updates over which that is seen, and after which it is said again. */
const LAG_WARM_UP = 50;
const LAG_PAUSE = 2000;

/** Images that a message names. */
const NAMED = 4;

interface Usual {
  count: number;
  mean: number;
}

/** What the watchdog needs of an update. */
export interface Watched {
  /** Number of the update. */
  readonly step: number;
  readonly result: Pick<StepResult, 'gradNorm' | 'losses'>;
  /** Whether the gradient was not finite, and not because dynamic loss scaling tries a factor. */
  readonly isBad: boolean;
  readonly microBatches: readonly Pick<MicroBatch, 'indices'>[];
}

export class Watchdog {
  readonly #dataset: Pick<DataSet, 'nameOf'>;
  readonly #emit: TrainEventListener;
  readonly #usual = new Map<string, Usual>();
  #badSteps = 0;
  /** Updates with a spike, the newest last. */
  #spikes: number[] = [];
  /** Smoothed time of each rank for an update. */
  #rankMs: number[] = [];
  #rankUpdates = 0;
  #lagSaidAt = Number.NEGATIVE_INFINITY;

  constructor(dataset: Pick<DataSet, 'nameOf'>, emit: TrainEventListener) {
    this.#dataset = dataset;
    this.#emit = emit;
  }

  /** Looks at an update. @returns what is wrong for good, or null */
  look(watched: Watched): string | null {
    this.#lookAtGradient(watched);
    this.#lookAtLosses(watched);
    if (this.#badSteps >= MAX_BAD_STEPS)
      return `the gradient was not finite for ${this.#badSteps} updates in a row`;
    if (this.#spikes.length >= MAX_SPIKES)
      return `the loss was above ${SPIKE_FACTOR} times the usual one in ${MAX_SPIKES} of the last ${SPIKE_WINDOW} updates`;
    return null;
  }

  /**
   * Reports a rank that all others wait for.
   * @param busyMs time that each rank worked on the update
   */
  lookAtRanks(step: number, busyMs: readonly number[], describe: (rank: number) => string): void {
    this.#rankUpdates++;
    const rate = Math.max(UPDATE_RATE, 1 / this.#rankUpdates);
    this.#rankMs = busyMs.map((ms, rank) => {
      const before = this.#rankMs[rank] ?? 0;
      return before + (ms - before) * rate;
    });
    if (this.#rankUpdates < LAG_WARM_UP || step < this.#lagSaidAt + LAG_PAUSE) return;
    const slowest = Math.max(...this.#rankMs);
    const rank = this.#rankMs.indexOf(slowest);
    const others = this.#rankMs.toSpliced(rank, 1).sort((a, b) => a - b);
    const usual = others[others.length >> 1];
    if (slowest <= LAG_FACTOR * usual) return;
    this.#lagSaidAt = step;
    const message = `step ${step}: ${describe(rank)} takes ${slowest.toFixed(0)} ms for an update and the others ${usual.toFixed(0)} ms, which all wait for it; look at what else runs on its machine`;
    this.#emit({ type: 'warning', code: 'RANK_LAGS', message });
  }

  #lookAtGradient({ step, result, isBad, microBatches }: Watched): void {
    this.#badSteps = isBad ? this.#badSteps + 1 : 0;
    if (!isBad) return;
    const isOdd = (i: number) => !Number.isFinite(result.losses[i].sum);
    const odd = microBatches.filter((_, i) => isOdd(i));
    const images = this.#names(odd.length ? odd : microBatches);
    const message = `step ${step}: the gradient has NaN or infinite values, which were replaced (${images}); if this goes on, lower --lr`;
    this.#emit({ type: 'warning', code: 'NON_FINITE_GRADIENT', message });
  }

  #lookAtLosses({ step, result, microBatches }: Watched): void {
    this.#spikes = this.#spikes.filter((at) => at > step - SPIKE_WINDOW);
    const high: { ratio: number; size: string; microBatch: Pick<MicroBatch, 'indices'> }[] = [];
    for (const [i, { patch, sum, elements }] of result.losses.entries()) {
      const loss = sum / elements;
      const size = extentName(patch);
      const usual = this.#usual.get(size) ?? { count: 0, mean: 0 };
      this.#usual.set(size, usual);
      const ratio = loss / usual.mean;
      if (usual.count >= WARM_UP && ratio > SPIKE_FACTOR)
        high.push({ ratio, size, microBatch: microBatches[i] });
      // A spike does not change what is usual.
      else if (Number.isFinite(loss)) {
        usual.count++;
        usual.mean += (loss - usual.mean) * Math.max(UPDATE_RATE, 1 / usual.count);
      }
    }
    if (high.length === 0) return;
    this.#spikes.push(step);
    const worst = high.reduce((a, b) => (b.ratio > a.ratio ? b : a));
    const images = this.#names([worst.microBatch]);
    const message = `step ${step}: the loss of patches of ${worst.size} px is ${worst.ratio.toFixed(0)} times the usual one (${images}); if this goes on, lower --lr, or look at the images`;
    this.#emit({ type: 'warning', code: 'LOSS_SPIKE', message });
  }

  #names(microBatches: readonly Pick<MicroBatch, 'indices'>[]): string {
    return imageNames(
      this.#dataset,
      microBatches.flatMap(({ indices }) => Array.from(indices)),
    );
  }
}

/** `images a.png, b.png and 14 more`. */
export function imageNames(dataset: Pick<DataSet, 'nameOf'>, indices: readonly number[]): string {
  const names = [...new Set(indices.map((index) => oneLine(dataset.nameOf(index))))];
  const more = names.length - NAMED;
  const list = names.slice(0, NAMED).join(', ');
  return `image${names.length === 1 ? '' : 's'} ${list}${more > 0 ? ` and ${more} more` : ''}`;
}

/** How long data may take. */
export interface Patience {
  readonly warnMs: number;
  readonly stopMs: number;
}

/** Large photos are decoded within seconds; network drives come back within minutes. */
const DATA_PATIENCE: Patience = { warnMs: 30_000, stopMs: 600_000 };

/**
 * Waits for data, and says so when it takes long.
 * @param what is waited for, asked when it is late
 * @throws UserError when it has not come after `stopMs`
 */
export async function waitForData(
  data: Promise<void>,
  what: () => string,
  emit: TrainEventListener,
  { warnMs, stopMs }: Patience = DATA_PATIENCE,
): Promise<void> {
  // Where it comes too late, nobody waits for it any more.
  data.catch(() => {});
  const sec = (ms: number) => `${Math.round(ms / 1000)} s`;
  const timers: NodeJS.Timeout[] = [];
  const late = new Promise<never>((_, reject) => {
    const after = (ms: number, call: () => void) => {
      const guarded = () => {
        try {
          call();
        } catch (error) {
          reject(error);
        }
      };
      timers.push(setTimeout(guarded, ms));
    };
    after(warnMs, () => {
      const message = `waiting for ${what()} since ${sec(warnMs)}; does the disk or network drive answer? The run ends after ${sec(stopMs)}`;
      emit({ type: 'warning', code: 'DATA_STALLED', message });
    });
    after(stopMs, () => {
      const message = `${what()} did not come within ${sec(stopMs)}; see that the disk or network drive answers, and continue with --resume`;
      throw new UserError('DATA_STALLED', message);
    });
  });
  try {
    await Promise.race([data, late]);
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}
