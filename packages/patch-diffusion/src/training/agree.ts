/**
 * What several ranks tell each other while their gradients are summed: their shares of the losses, and what only one of them
 * knows (a signal, the clock). So all end with the same update, and all plan the next one alike.
 */
import type { Ranks } from '../distributed/ranks.js';
import type { Session } from './session.js';
import type { MicroBatchLoss } from './step.js';

/** Why a run may end with an update. */
export interface Wishes {
  readonly isInterrupted: boolean;
  readonly isTimeUp: boolean;
  /** An evaluation asked for the end. */
  readonly isStopped: boolean;
}

/** What holds for all ranks in an update. */
export interface Agreement extends Wishes {
  readonly losses: readonly MicroBatchLoss[];
  /** Time that each rank worked on the update until its gradients were there. */
  readonly busyMs: readonly number[];
}

/** What a single process decides by itself. */
export function ownWishes(session: Session, signal: AbortSignal | undefined): Wishes {
  return {
    isInterrupted: signal?.aborted ?? false,
    isTimeUp: session.clock.share() >= 1,
    isStopped: session.stopRequested,
  };
}

/** @param busyMs time that this rank has worked on the update */
export async function agree(
  ranks: Ranks,
  session: Session,
  { losses, busyMs, signal }: AgreementInput,
): Promise<Agreement> {
  const ownTime = Array.from({ length: ranks.worldSize }, (_, rank) => (rank === ranks.rank ? busyMs : 0));
  const byWriter = (value: number) => (ranks.isWriter ? value : 0);
  const [interrupts, timeShare, stops, ...rest] = await ranks.sum([
    Number(signal?.aborted ?? false),
    byWriter(session.clock.share()),
    byWriter(Number(session.stopRequested)),
    ...ownTime,
    ...losses.flatMap(({ sum, sumOfSquares, levels = [] }) => [sum, sumOfSquares, ...levels]),
  ]);
  session.agreedTimeShare = timeShare;
  const sums = rest.slice(ranks.worldSize);
  return {
    losses: losses.map((loss) => {
      const [sum, sumOfSquares, ...levels] = sums.splice(0, 2 + (loss.levels?.length ?? 0));
      return { ...loss, sum, sumOfSquares, ...(loss.levels ? { levels } : {}) };
    }),
    isInterrupted: interrupts > 0,
    isTimeUp: timeShare >= 1,
    isStopped: stops > 0,
    busyMs: rest.slice(0, ranks.worldSize),
  };
}

interface AgreementInput {
  readonly losses: readonly MicroBatchLoss[];
  readonly busyMs: number;
  readonly signal: AbortSignal | undefined;
}
