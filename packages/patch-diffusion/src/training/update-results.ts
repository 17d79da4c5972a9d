/**
 * What becomes of the results of updates, in their order: statistics, the watchdog, the event `step`. On a GPU results come one
 * update late, so that it always has work.
 */
import { UserError } from '../common/errors.js';
import type { TrainEvent, TrainEventListener, TrainProgress } from './events.js';
import type { Session } from './session.js';
import { lastGoodState } from './state-files.js';
import type { StepResult, Update } from './step.js';
import { Watchdog } from './watchdog.js';

interface Waiting {
  readonly progress: TrainProgress;
  readonly update: Update;
  readonly finish: () => Promise<StepResult>;
}

export class UpdateResults {
  readonly #session: Session;
  readonly #emit: TrainEventListener;
  readonly #watchdog: Watchdog;
  readonly #waiting: Waiting[] = [];

  constructor(session: Session, emit: TrainEventListener) {
    this.#session = session;
    this.#emit = emit;
    this.#watchdog = new Watchdog(session.parts.updates.dataset, emit);
  }

  /** Adds the update that was just made. @param finish gives its result */
  add(update: Update, finish: () => Promise<StepResult>): void {
    this.#waiting.push({ progress: this.#session.progress(), update, finish });
  }

  /** Waits for results until so many are left, and gives a function that takes them. */
  async until(left: number): Promise<() => Promise<void>> {
    const ready = this.#waiting.splice(0, this.#waiting.length - left);
    const results: StepResult[] = [];
    for (const { finish } of ready) results.push(await finish());
    return async () => {
      for (const [i, { progress, update }] of ready.entries()) await this.#take(progress, update, results[i]);
    };
  }

  /** Reports a rank that all others wait for. @param busyMs time that each worked on the update */
  lookAtRanks(busyMs: readonly number[]): void {
    const { state, parts } = this.#session;
    this.#watchdog.lookAtRanks(state.step, busyMs, (rank) => parts.ranks!.describe(rank));
  }

  /** @throws UserError when the training has diverged */
  async #take(progress: TrainProgress, { microBatches }: Update, result: StepResult): Promise<void> {
    const session = this.#session;
    session.record(result);
    // Dynamic loss scaling finds its factor by overflows; those at the smallest factor have another cause.
    const { lossScale } = session.state;
    const isBad = !Number.isFinite(result.gradNorm) && (!result.skipped || lossScale!.isLowest);
    if (isBad) session.gradientsAreGood = false;
    const fault = this.#watchdog.look({ step: progress.step, result, isBad, microBatches });
    if (fault !== null) throw diverged(fault, await lastGoodState(session.parts.runDir));
    this.#emit(stepEvent(session, progress, result));
  }
}

function stepEvent(
  session: Session,
  progress: TrainProgress,
  { losses, lr, gradNorm }: StepResult,
): TrainEvent {
  const total = (key: 'count' | 'elements' | 'sum') => losses.reduce((sum, loss) => sum + loss[key], 0);
  return {
    type: 'step',
    ...progress,
    ...session.clock.progress,
    patchSizePx: Math.max(...losses.map(({ patch }) => Math.max(patch.height, patch.width))),
    batch: total('count'),
    loss: total('sum') / total('elements'),
    lr,
    gradNorm,
    imagesPerSec: session.imagesPerSec(),
    etaSec: session.etaSec(),
  };
}

/** @param good the last good state, or null */
function diverged(fault: string, good: string | null): UserError {
  const remedy = good === null ? 'start again' : `continue from the last good state with --resume ${good}`;
  return new UserError('DIVERGED', `${fault}; lower --lr (or --loss-scaling) and ${remedy}`);
}
