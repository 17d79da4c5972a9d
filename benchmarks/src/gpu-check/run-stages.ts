/**
 * Runs stages one after the other within a budget of time. A stage that fails does not keep the others from running, and
 * what is known is handed on after each result and each stage: a run that is interrupted brings that much back.
 */
import type { Result, StageOutcome, Status } from './results.js';

/** The time of a stage was over before it was done. */
export class OutOfTime extends Error {}

export interface Stage {
  readonly name: string;
  /** With less time left than this it would bring nothing, and is not begun. */
  readonly needsSec: number;
  /** Why there is nothing to do here. */
  readonly skip?: string | null;
  /** Nothing else works without it. */
  readonly isRequired?: boolean;
  /** @throws OutOfTime when it was stopped at the end of its time; any other error is a failure */
  run(emit: (result: Result) => void, limitSec: number): Promise<void>;
}

export interface RunOptions {
  readonly budgetSec: number;
  /** Gets each result when it is there. */
  readonly onResult: (stage: string, result: Result) => void;
  /** Gets all outcomes so far after each stage. */
  readonly onStage: (outcomes: readonly StageOutcome[]) => void | Promise<void>;
  /** Seconds on a monotonic clock. */
  readonly clock?: () => number;
}

export async function runStages(stages: readonly Stage[], options: RunOptions): Promise<StageOutcome[]> {
  const { budgetSec, onResult, onStage, clock = () => performance.now() / 1000 } = options;
  const end = clock() + budgetSec;
  const outcomes: StageOutcome[] = [];
  let missing: string | null = null;
  for (const stage of stages) {
    const begin = clock();
    const results: Result[] = [];
    const { status, reason } = await attempt();
    outcomes.push({ stage: stage.name, status, reason, seconds: clock() - begin, results });
    if (stage.isRequired && status !== 'ok') missing = stage.name;
    await onStage(outcomes);

    async function attempt(): Promise<Pick<StageOutcome, 'status' | 'reason'>> {
      if (missing !== null) return { status: 'skipped', reason: `it needs the stage ${missing}` };
      if (stage.skip) return { status: 'skipped', reason: stage.skip };
      const leftSec = end - begin;
      if (leftSec < stage.needsSec) {
        const left = Math.max(0, Math.floor(leftSec));
        return { status: 'skipped', reason: `${left} s were left and it needs about ${stage.needsSec} s` };
      }
      try {
        await stage.run((result) => {
          results.push(result);
          onResult(stage.name, result);
        }, leftSec);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        // What had failed by then has failed.
        const isLate = error instanceof OutOfTime && !results.some(({ status }) => status === 'failed');
        return { status: isLate ? 'skipped' : 'failed', reason };
      }
      return summary(results);
    }
  }
  return outcomes;
}

function summary(results: readonly Result[]): { status: Status; reason: string | null } {
  const failed = results.filter(({ status }) => status === 'failed');
  if (failed.length === 1) return { status: 'failed', reason: `${failed[0].name}: ${failed[0].detail}` };
  if (failed.length) return { status: 'failed', reason: `${failed.length} of ${results.length} failed` };
  const isAllSkipped = results.length > 0 && results.every(({ status }) => status === 'skipped');
  return isAllSkipped ? { status: 'skipped', reason: results[0].detail } : { status: 'ok', reason: null };
}
