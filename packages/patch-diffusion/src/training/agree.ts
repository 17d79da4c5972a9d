/**
 * What several ranks tell each other after an update: their shares of the losses, and what only one of them knows (a
 * signal, the clock). So all end with the same update, and all plan the next one alike.
 */
import type { Ranks } from '../distributed/ranks.js';
import type { Session } from './session.js';
import type { MicroBatchLoss } from './step.js';

/** What holds for all ranks after an update. */
export interface Agreement {
  readonly losses: readonly MicroBatchLoss[];
  readonly isInterrupted: boolean;
  readonly isTimeUp: boolean;
  /** An evaluation asked for the end. */
  readonly isStopped: boolean;
  /** Time that each rank worked on the update, without waiting for others. */
  readonly busyMs: readonly number[];
}

/** @param busyMs time that this rank worked on the update, without waiting for others */
export async function agree(
  ranks: Ranks | null,
  session: Session,
  losses: readonly MicroBatchLoss[],
  signal: AbortSignal | undefined,
  busyMs: number,
): Promise<Agreement> {
  const isInterrupted = signal?.aborted ?? false;
  const timeShare = session.clock.share();
  const isStopped = session.stopRequested;
  if (!ranks) return { losses, isInterrupted, isTimeUp: timeShare >= 1, isStopped, busyMs: [busyMs] };
  const ownTime = Array.from({ length: ranks.worldSize }, (_, rank) => (rank === ranks.rank ? busyMs : 0));
  const byWriter = (value: number) => (ranks.isWriter ? value : 0);
  const [interrupts, agreedShare, stops, ...rest] = await ranks.sum([
    Number(isInterrupted),
    byWriter(timeShare),
    byWriter(Number(isStopped)),
    ...ownTime,
    ...losses.flatMap(({ sum, sumOfSquares, levels = [] }) => [sum, sumOfSquares, ...levels]),
  ]);
  session.agreedTimeShare = agreedShare;
  const sums = rest.slice(ranks.worldSize);
  return {
    losses: losses.map((loss) => {
      const [sum, sumOfSquares, ...levels] = sums.splice(0, 2 + (loss.levels?.length ?? 0));
      return { ...loss, sum, sumOfSquares, ...(loss.levels ? { levels } : {}) };
    }),
    isInterrupted: interrupts > 0,
    isTimeUp: agreedShare >= 1,
    isStopped: stops > 0,
    busyMs: rest.slice(0, ranks.worldSize),
  };
}
