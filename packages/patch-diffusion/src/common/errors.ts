/**
 * Errors for people: one line that says what is wrong, where, and what to do.
 *
 * Everything a user can cause (a wrong option, an unreadable folder, a full disk) is a {@link UserError}; the command
 * line prints its message without a stack trace. Any other error is a fault of this program.
 */

/** Something that the user can correct. `message` is one line and ends with what to do. */
export class UserError extends Error {
  /** Stable, upper-case identifier such as `DATA_NOT_FOUND`, for programs that react to it. */
  readonly code: string;
  /** Exit status of the command line: 2 for wrong usage (options, values), 1 for everything else. */
  readonly exitCode: 1 | 2;

  constructor(code: string, message: string, options: { exitCode?: 1 | 2; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'UserError';
    this.code = code;
    this.exitCode = options.exitCode ?? 1;
  }
}

/** Wrong usage: an option or value that cannot be meant. */
export const usageError = (code: string, message: string): UserError =>
  new UserError(code, message, { exitCode: 2 });

/**
 * The candidate that a mistyped `name` probably means, for "did you mean …?", or undefined when none is near.
 * Case and the separators `-`, `_` and blank do not count; a third of the letters may differ.
 */
export function nearest(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = normalise(name);
  const limit = Math.max(1, Math.floor(wanted.length / 3));
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const other = normalise(candidate);
    // A prefix is what a hurried user types: `res` for `resolution`.
    const isPrefix = wanted.length >= 3 && other.startsWith(wanted);
    const distance = isPrefix ? 0.5 : editDistance(wanted, other);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return bestDistance <= limit ? best : undefined;
}

function normalise(text: string): string {
  return text.toLowerCase().replace(/[-_\s]/g, '');
}

/** Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours cost 1 each. */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      let cost = Math.min(previous[j] + 1, current[j - 1] + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforePrevious[j - 2] + 1);
      }
      current.push(cost);
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length];
}
