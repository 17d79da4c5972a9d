/** What a rank beside the first would show goes to a file of its own in the run folder. */
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RankError, Ranks } from '../distributed/ranks.js';
import { note, redirectNotes } from './terminal.js';

/** Keeps the notes of this rank until its run folder is known, then appends them to `rank-001.log` there. */
export class RankLog {
  #kept = '';
  #file: string | null = null;

  constructor(readonly ranks: Ranks) {
    redirectNotes((text) => {
      this.#kept += text;
      this.#flush();
    });
  }

  /** A folder that this machine does not see gets no log; its notes are shown after all. */
  open(runDir: string): void {
    if (existsSync(runDir)) {
      this.#file = join(runDir, `rank-${String(this.ranks.rank).padStart(3, '0')}.log`);
      this.#flush();
    } else {
      const kept = this.#kept.trimEnd();
      this.close();
      if (kept) note(kept);
    }
  }

  #flush(): void {
    if (this.#file === null) return;
    appendFileSync(this.#file, this.#kept);
    this.#kept = '';
  }

  /** Notes go to standard error again. Those of a rank that has not begun are not of interest. */
  close(): void {
    redirectNotes(null);
    this.#kept = '';
  }
}

/** Whether another rank says why all end: rank 0, or rank 1 where rank 0 was lost without a word. */
export function isSaidElsewhere(error: unknown, rank: number): boolean {
  // Known by its code: the class would bring tensors along.
  const { code, rank: lost, isFailure } = error as Partial<RankError>;
  return code === 'RANK_LOST' && rank !== (lost === 0 && !isFailure ? 1 : 0);
}
