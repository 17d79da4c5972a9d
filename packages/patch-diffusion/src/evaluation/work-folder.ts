/**
 * What an unfinished evaluation has done so far: samples, features, and the figures of finished metrics. The folder's name
 * tells network, data and options, so that the same command finds it; it goes when the evaluation is complete.
 */
import { createHash } from 'node:crypto';
import { readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { guarded } from '../common/file-error.js';
import type { Metric } from '../config/evaluate-options.js';
import { RunLock } from '../run/run-lock.js';
import type { Measured } from './report.js';

/** What a metric has found and what it had to say. */
export interface Finished {
  readonly measured: Measured;
  readonly warnings: readonly string[];
}

export class WorkFolder {
  readonly path: string;
  readonly #lock: RunLock;
  readonly #done: Map<Metric, Finished>;

  private constructor(path: string, lock: RunLock, done: Map<Metric, Finished>) {
    this.path = path;
    this.#lock = lock;
    this.#done = done;
  }

  /**
   * @param parent folder of unfinished evaluations
   * @param key everything that figures depend on
   * @throws UserError when another process is at the same evaluation
   */
  static async open(parent: string, key: unknown): Promise<WorkFolder> {
    const name = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16);
    const path = join(parent, name);
    return guarded(`write to ${parent}`, async () => {
      makeFolder(path);
      const lock = await RunLock.acquire(path);
      const text = await readFile(join(path, 'figures.json'), 'utf8').catch(() => '[]');
      return new WorkFolder(path, lock, new Map(parseOr(text, [])));
    });
  }

  /** What a metric has found, once it is finished. */
  finished(metric: Metric): Finished | undefined {
    return this.#done.get(metric);
  }

  async record(metric: Metric, finished: Finished): Promise<void> {
    this.#done.set(metric, finished);
    const file = join(this.path, 'figures.json');
    await guarded(`write ${file}`, () => writeFileAtomic(file, JSON.stringify([...this.#done])));
  }

  /** @param isComplete whether nothing is left to continue */
  async close(isComplete: boolean): Promise<void> {
    await this.#lock.release();
    if (!isComplete) return;
    await rm(this.path, { recursive: true, force: true });
    // Others may be unfinished.
    await rmdir(dirname(this.path)).catch(() => {});
  }
}

function parseOr(text: string, otherwise: [Metric, Finished][]): [Metric, Finished][] {
  try {
    return JSON.parse(text) as [Metric, Finished][];
  } catch {
    return otherwise;
  }
}
