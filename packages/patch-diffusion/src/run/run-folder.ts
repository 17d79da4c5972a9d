/**
 * The run folder is the interface to a training run: dashboards, `generate`, `--resume` and scripts read it and
 * never talk to the process.
 *
 *     00000-photos/
 *       run.json      configuration, status, heartbeat; rewritten whole
 *       stats.jsonl   one line per tick, appended
 *       stats.csv     the same as a table (--csv)
 *       events.out.tfevents.*   TensorBoard's (--tensorboard)
 *       samples/ snapshots/ state/
 *       superseded/   files newer than the state that the run was resumed from
 *       lock          while a process trains here
 *
 * Every file but `stats.jsonl`, `stats.csv` and event files appears whole or not at all; there, a torn last line (a crash) is cut off when
 * the run is resumed.
 */

import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readdir, readFile, truncate } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { removeLeftovers, writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { TrainOptions } from '../config/train-options.js';
import { datasetName } from '../data/names.js';
import { HEARTBEAT_SEC, RunLock } from './run-lock.js';
import {
  newestSnapshot,
  newestState,
  notARun,
  RUN_JSON_FORMAT,
  type RunJson,
  type RunStatus,
  readRunJson,
} from './runs.js';
import type { StatsLine } from './stats.js';
import { setAside } from './superseded.js';

const FOLDERS = ['samples', 'snapshots', 'state'] as const;

/** Any text as a part of a folder's name. */
export function folderName(text: string): string {
  return (
    text
      .replace(/[^\p{L}\p{N}._-]+/gu, '-')
      .replace(/^[-.]+|-+$/g, '')
      .slice(0, 80) || 'data'
  );
}

export interface RunFolderInit {
  readonly config: TrainOptions;
  /** Version of the program. */
  readonly version: string;
  /** Length of the run in images. */
  readonly totalNimg: number;
  /** How many processes this machine's `train` has started; absent for one. */
  readonly processes?: number | undefined;
}

export class RunFolder {
  /** Path of the folder. */
  readonly dir: string;
  #json: RunJson;
  readonly #lock: RunLock;
  #stats: FileHandle | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** Writes of run.json follow one another. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(dir: string, json: RunJson, lock: RunLock) {
    this.dir = dir;
    this.#json = json;
    this.#lock = lock;
  }

  /**
   * Makes `{out}/{id}-{dataset}[-{desc}]` (or uses `out` itself with `nosubdir`) and locks it. The id is one
   * more than the largest there is.
   *
   * @throws {UserError} when the folder cannot be made, holds another run, or is in use
   */
  static async create(init: RunFolderInit): Promise<RunFolder> {
    const { config } = init;
    const out = config.out;
    return guarded(`create a run folder in ${out}`, async () => {
      makeFolder(out);
      if (config.nosubdir) {
        const lock = await RunLock.acquire(out);
        return releasedOnFailure(lock, async () => {
          await checkUnused(out);
          return RunFolder.#start(out, init, lock);
        });
      }
      const parts = [datasetName(config.data), ...(config.desc === null ? [] : [config.desc])];
      const suffix = parts.map(folderName).join('-');
      for (;;) {
        const ids = (await readdir(out)).map((name) => Number(/^(\d+)/.exec(name)?.[1] ?? -1));
        const id = Math.max(-1, ...ids) + 1;
        const dir = join(out, `${String(id).padStart(5, '0')}-${suffix}`);
        try {
          await mkdir(dir);
        } catch (error) {
          // Another process took the number.
          if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
          throw error;
        }
        const lock = await RunLock.acquire(dir);
        return releasedOnFailure(lock, () => RunFolder.#start(dir, init, lock));
      }
    });
  }

  /**
   * Opens the folder of an earlier run to resume it.
   *
   * @param held the folder's lock where the caller has it already; it becomes the run's
   * @throws {UserError} when it is no run folder or in use
   */
  static async reopen(dir: string, init: RunFolderInit, held?: RunLock): Promise<RunFolder> {
    return guarded(`resume in ${dir}`, async () => {
      const before = await readRunJson(dir);
      if (before === null) throw notARun(dir);
      const lock = held ?? (await RunLock.acquire(dir));
      return releasedOnFailure(lock, () => RunFolder.#start(dir, init, lock, before));
    });
  }

  static async #start(dir: string, init: RunFolderInit, lock: RunLock, before?: RunJson): Promise<RunFolder> {
    await removeLeftovers(dir);
    for (const folder of FOLDERS) {
      makeFolder(join(dir, folder));
      await removeLeftovers(join(dir, folder));
    }
    const now = new Date().toISOString();
    const run = new RunFolder(
      dir,
      {
        format: RUN_JSON_FORMAT,
        config: init.config,
        workingFolder: process.cwd(),
        status: 'running',
        version: init.version,
        pid: process.pid,
        host: hostname(),
        startedAt: before?.startedAt ?? now,
        heartbeat: now,
        step: before?.step ?? 0,
        nimg: before?.nimg ?? 0,
        totalNimg: init.totalNimg,
        ...(init.processes === undefined ? {} : { processes: init.processes }),
      },
      lock,
    );
    await run.#write();
    const statsFile = join(dir, 'stats.jsonl');
    await cutTornLine(statsFile);
    run.#stats = await open(statsFile, 'a');
    run.#timer = setInterval(() => void run.update({}).catch(() => {}), HEARTBEAT_SEC * 1000);
    run.#timer.unref();
    return run;
  }

  get json(): Readonly<RunJson> {
    return this.#json;
  }

  /** `samples/fakes-000120.png` and the like, inside the folder. */
  file(folder: (typeof FOLDERS)[number], name: string): string {
    return join(this.dir, folder, name);
  }

  /** Changes `run.json` and renews the heartbeat. */
  async update(
    change: Partial<Pick<RunJson, 'status' | 'step' | 'nimg' | 'reason' | 'error'>>,
  ): Promise<void> {
    this.#json = { ...this.#json, ...change, heartbeat: new Date().toISOString() };
    // Other hosts judge the run by its lock, which is renewed even where nothing can be written.
    await this.#lock.touch();
    await this.#write();
  }

  async #write(): Promise<void> {
    const write: Promise<void> = this.#writing
      .catch(() => {})
      .then(() =>
        guarded(`write ${join(this.dir, 'run.json')}`, () =>
          writeFileAtomic(join(this.dir, 'run.json'), `${JSON.stringify(this.#json, null, 2)}\n`),
        ),
      );
    this.#writing = write;
    await write;
  }

  /** Appends one line to `stats.jsonl`, in a single write, and flushes it. NaN becomes null, as JSON has none. */
  async appendStats(line: StatsLine): Promise<void> {
    await guarded(`write ${join(this.dir, 'stats.jsonl')}`, async () => {
      const stats = this.#stats;
      if (stats === null) throw new Error('internal: the run folder is closed');
      const { size } = await stats.stat();
      try {
        await stats.appendFile(`${JSON.stringify(line)}\n`);
      } catch (error) {
        // Part of a line (the disk was nearly full) would spoil the next one.
        await stats.truncate(size);
        throw error;
      }
      await stats.datasync();
    });
  }

  /** Records that the run failed, and why. */
  async fail(error: unknown): Promise<void> {
    const reason = error instanceof UserError ? error.code : 'INTERNAL';
    await this.close('failed', reason, error instanceof Error ? error.message : String(error));
  }

  /**
   * Records the final status and releases the lock. Safe to call twice; the first call counts.
   * @param reason why the run ended, in a word
   */
  async close(status: Exclude<RunStatus, 'running'>, reason?: string, error?: string): Promise<void> {
    if (this.#stats === null) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    const stats = this.#stats;
    this.#stats = null;
    try {
      await this.update({ status, reason, error });
    } finally {
      await stats.close().finally(() => this.#lock.release());
    }
  }
}

async function releasedOnFailure<T>(lock: RunLock, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The folder of a run that ended before it had saved anything may be used again. */
async function checkUnused(dir: string): Promise<void> {
  if ((await readRunJson(dir)) === null) return;
  if ((await newestState(dir)) === null && (await newestSnapshot(dir)) === null) {
    await setAside(dir, { step: 0, nimg: 0 });
    return;
  }
  throw new UserError(
    'RUN_EXISTS',
    `${dir} already holds a run; continue it with --resume ${dir}, or choose another --out`,
  );
}

async function cutTornLine(file: string): Promise<void> {
  const text = await readFile(file).catch(() => null);
  if (text === null || text.length === 0 || text[text.length - 1] === 10) return;
  await truncate(file, text.lastIndexOf(10) + 1);
}
