/** What a check on another machine brings back. */

export type Status = 'ok' | 'failed' | 'skipped';

/** One thing that a stage looked at or measured. */
export interface Result {
  readonly name: string;
  readonly status: Status;
  /** For people: what was found, or why it failed or was skipped. */
  readonly detail: string;
  /** The same as numbers. `ratio` is ours over another's speed: above 1, ours is quicker. */
  readonly figures?: Readonly<Record<string, number>>;
}

/** How a stage ended. */
export interface StageOutcome {
  readonly stage: string;
  readonly status: Status;
  /** Why it failed or was skipped; null when all is well. */
  readonly reason: string | null;
  readonly seconds: number;
  readonly results: readonly Result[];
}

/** Takes each result as soon as it is there. */
export type Emit = (result: Result) => void;

/** @throws Error if a line is none that a stage's process writes */
export function parseResult(line: string): Result {
  const { name, status, detail, figures } = JSON.parse(line) as Partial<Result>;
  if (typeof name !== 'string' || typeof detail !== 'string' || !isStatus(status))
    throw new Error(`internal: no result: ${line}`);
  return { name, status, detail, ...(figures ? { figures } : {}) };
}

function isStatus(value: unknown): value is Status {
  return value === 'ok' || value === 'failed' || value === 'skipped';
}
