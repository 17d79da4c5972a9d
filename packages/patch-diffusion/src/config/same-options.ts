/** Ranks are started with the same options. */
import { usageError } from '../common/errors.js';
import type { Ranks } from '../distributed/ranks.js';
import { kebab } from './read-values.js';

/**
 * Compares the options of this rank with those of rank 0.
 * @param first rank 0's
 * @param free names of options that may differ
 * @throws UserError (exit code 2) naming one that differs
 */
export function checkSameOptions<O extends object>(
  ranks: Ranks,
  own: O,
  first: O,
  free: readonly (keyof O)[],
): void {
  for (const key of Object.keys(own) as (keyof O & string)[]) {
    const [here, there] = [own[key], first[key]].map((value) => JSON.stringify(value));
    if (!free.includes(key) && here !== there) throw ranksDiffer(ranks, `--${kebab(key)}`, here, there);
  }
}

/** The error of a rank that was told something else than rank 0. */
export function ranksDiffer({ rank }: Ranks, what: string, here: unknown, there: unknown): Error {
  return usageError(
    'RANKS_DIFFER',
    `rank ${rank} has ${what} ${here}, rank 0 has ${there}; make them the same`,
  );
}

/** The same, where rank 0 has not told its options yet. */
export async function compareOptions<O extends object>(
  ranks: Ranks,
  own: O,
  free: readonly (keyof O)[],
): Promise<void> {
  const first = await ranks.share(ranks.isWriter ? JSON.stringify(own) : null);
  checkSameOptions(ranks, own, JSON.parse(first) as O, free);
}
