/**
 * `stats.csv`: the means of `stats.jsonl` as a table, one row per tick. A value that is missing or NaN is empty. The file is
 * made of `stats.jsonl` when a run is started or resumed and whenever a statistic comes that has no column yet; in between
 * rows are appended.
 */

import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { byGroup, readStats, type StatsLine } from './stats.js';

const TIME = 'timestamp';

export class StatsCsv {
  readonly path: string;
  readonly #runDir: string;
  /** Columns of the file; null before it is made, and when it may be damaged. */
  #columns: readonly string[] | null = null;

  constructor(runDir: string) {
    this.#runDir = runDir;
    this.path = join(runDir, 'stats.csv');
  }

  /**
   * Adds a line, which `stats.jsonl` has already.
   * @throws the file system's error; the next call makes the file anew
   */
  async append(line: StatsLine): Promise<void> {
    const columns = this.#columns;
    this.#columns = null;
    if (columns && Object.keys(line).every((name) => columns.includes(name))) {
      await appendFile(this.path, row(line, columns));
      this.#columns = columns;
    } else this.#columns = await this.#rewrite();
  }

  async #rewrite(): Promise<string[]> {
    const lines = await readStats(this.#runDir);
    const names = new Set(lines.flatMap((line) => Object.keys(line)));
    names.delete(TIME);
    const columns = [TIME, ...[...names].sort(byGroup)];
    // The names need no quotes: letters, digits, "/" and "_".
    const rows = lines.map((line) => row(line, columns));
    await writeFileAtomic(this.path, [`${columns.join(',')}\n`, ...rows]);
    return columns;
  }
}

function row(line: StatsLine, columns: readonly string[]): string {
  const values = columns.map((name) => {
    const stat = line[name];
    const value = typeof stat === 'object' ? stat.mean : stat;
    return Number.isFinite(value) ? value : '';
  });
  return `${values.join(',')}\n`;
}
