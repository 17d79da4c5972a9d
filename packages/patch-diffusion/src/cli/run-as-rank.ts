/** Commands whose work several processes may share: what is around the work. */
import { type UserError, usageError } from '../common/errors.js';
import { followLauncher, isLaunched, tellLauncher } from '../common/launched.js';
import * as f from '../config/fields.js';
import { type Place, readEnvironment } from '../distributed/environment.js';
import type { Ranks } from '../distributed/ranks.js';
import { Exit, INTERRUPTED } from './interrupt.js';
import { type Launch, launchRanks, type RankNews } from './launch.js';
import { isSaidElsewhere } from './rank-log.js';
import { note, redirectNotes } from './terminal.js';

/** The field `nproc` of a command. */
export const nprocField = f.int(
  'Processes that share the work on this machine, each with a GPU of its own where there are some; the result is the same',
  { unit: 'processes', min: 1, max: 1024, default: 1 },
);

/** What a rank says that was interrupted. */
const INTERRUPTED_TEXT = 'it was interrupted';

/** Time to print the last line. */
const END_MS = 1000;

/** What {@link withRanks} starts, and how often. */
interface Start {
  /** Processes to start. */
  readonly nproc: number;
  /** How often, and with which command line, the ranks are started again after a failure; by default not. */
  readonly restart?: Launch['restart'];
  /** What to do when a rank is lost. */
  readonly remedy?: string;
}

/**
 * Does the work alone, or as one of the ranks that `--nproc` or another program has started; or starts them. Ranks beside
 * the first say nothing but why they fail.
 */
export async function withRanks(
  { nproc, restart, remedy = 'start all ranks again' }: Start,
  work: (ranks: Ranks | null) => Promise<void>,
): Promise<void> {
  const place = checkPlace(nproc);
  if (!place && nproc > 1) {
    process.exitCode = await launchRanks(nproc, { args: process.argv.slice(2), restart });
    return;
  }
  if (!place) {
    await work(null);
    return;
  }
  followLauncher();
  const { Ranks } = await import('../distributed/ranks.js');
  const ranks = await Ranks.join(place, remedy).catch((error: unknown) => {
    endSoon();
    throw error;
  });
  if (!ranks.isWriter) redirectNotes(() => {});
  try {
    await work(ranks);
    await ranks.leave();
  } catch (error) {
    await endAsRank(ranks, error);
  } finally {
    redirectNotes(null);
  }
}

/**
 * This process among the ranks, or null.
 * @throws UserError (exit code 2) for `--nproc` where another program has started ranks
 */
export function checkPlace(nproc: number): Place | null {
  const place = readEnvironment();
  if (place && nproc > 1 && !isLaunched())
    throw usageError(
      'BAD_OPTION',
      `--nproc ${nproc}: this is already rank ${place.rank} of ${place.worldSize}; leave it out`,
    );
  return place;
}

/** Threads that wait for a rank that is gone, or for an address that says nothing, do not keep this process. */
function endSoon(): void {
  setTimeout(() => process.exit(), END_MS).unref();
}

/** Tells the others why this rank ends, and ends. One of them says it. */
async function endAsRank(ranks: Ranks, error: unknown): Promise<never> {
  if (error instanceof Exit) throw error;
  const { name, message = String(error), code } = error as Partial<UserError>;
  tellLauncher({ type: 'failure', code } satisfies RankNews);
  const isInterrupted = name === 'AbortError';
  await ranks.fail(isInterrupted ? new Error(INTERRUPTED_TEXT) : error);
  endSoon();
  if (isInterrupted || message.endsWith(`has failed: ${INTERRUPTED_TEXT}`)) throw new Exit(INTERRUPTED);
  if (!isSaidElsewhere(error, ranks.rank)) throw error;
  note(`error: ${message}`);
  throw new Exit(1);
}
