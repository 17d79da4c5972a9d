/**
 * Work that ranks share although one of them could do it alone: rank 0 does everything as a single process, files
 * included, and hands out what takes long; the others wait for it and compute their part.
 */
import type { Ranks } from './ranks.js';

const NO_BYTES: Uint8Array = new Uint8Array(0);

/** What rank 0 hands out. */
export interface Task<T> {
  /** Plain data, the same for all ranks. */
  readonly what: T;
  /** Number of items. */
  readonly count: number;
  /** Items that a rank takes at a time: as many as a single process would, so that the results are its own. */
  readonly block: number;
  /** Bytes that go with it. */
  readonly data?: Uint8Array;
}

/** Computes the items of a range, which may be empty. */
export type Compute<T> = (
  what: T,
  range: readonly [begin: number, end: number],
  context: {
    readonly data: Uint8Array;
    /** Raised when this is of no use any more: by the user, or since a rank is lost. */
    readonly stop: AbortSignal | undefined;
  },
) => Promise<Uint8Array>;

/**
 * Items that all ranks compute at a time.
 * @param count items in all
 * @param most items that one process takes at a time; fewer where there is less than that for each rank
 */
export function blockFor(ranks: Ranks | null, count: number, most: number): { block: number; round: number } {
  const size = ranks?.worldSize ?? 1;
  const block = Math.max(1, Math.min(most, Math.ceil(count / size)));
  return { block, round: block * size };
}

/**
 * For rank 0, or a process of its own (`ranks` null): has items computed.
 * @returns the parts, in the order of the items
 */
export async function computeTogether<T>(
  ranks: Ranks | null,
  signal: AbortSignal | undefined,
  task: Task<T>,
  compute: Compute<T>,
): Promise<Uint8Array[]> {
  const { what, count, block, data = NO_BYTES } = task;
  if (!ranks) return [await compute(what, [0, count], { data, stop: signal })];
  await ranks.share(JSON.stringify({ what, count, block }));
  await ranks.shareBytes(data);
  return computePart(ranks, signal, task, compute);
}

/** For the other ranks: computes parts until rank 0 has no more work. */
export async function help<T>(
  ranks: Ranks,
  signal: AbortSignal | undefined,
  compute: Compute<T>,
): Promise<void> {
  for (;;) {
    const text = await ranks.share(null);
    if (text === '') return;
    const data = await ranks.shareBytes(null);
    await computePart(ranks, signal, { ...(JSON.parse(text) as Task<T>), data }, compute);
  }
}

/** For rank 0: there is no more work. */
export async function dismiss(ranks: Ranks | null): Promise<void> {
  await ranks?.share('');
}

async function computePart<T>(
  ranks: Ranks,
  signal: AbortSignal | undefined,
  { what, count, block, data = NO_BYTES }: Task<T>,
  compute: Compute<T>,
): Promise<Uint8Array[]> {
  const at = (rank: number) => Math.min(count, rank * block);
  const stop = signal ? AbortSignal.any([signal, ranks.gone]) : ranks.gone;
  signal?.throwIfAborted();
  let own = NO_BYTES;
  try {
    own = await compute(what, [at(ranks.rank), at(ranks.rank + 1)], { data, stop });
  } catch (error) {
    // Where another rank is lost, the next collective says so.
    if (!ranks.gone.aborted || signal?.aborted) throw error;
  }
  return ranks.gatherBytes(own);
}
