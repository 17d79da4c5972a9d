/**
 * The run folder is the interface to a training run: dashboards, `generate`, `--resume` and scripts read it and
 * never talk to the process.
 *
 *     00000-photos/
 *       run.json      configuration, status, heartbeat; rewritten whole
 *       stats.jsonl   one line per tick, appended
 *       samples/ snapshots/ state/
 *       lock          while a process trains here
 *
 * Every file but `stats.jsonl` appears whole or not at all; there, a torn last line (a crash) is cut off when
 * the run goes on.
 */

import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readdir, readFile, stat, truncate } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import type { TrainOptions } from '../config/train-options.js';
import { datasetName } from '../data/names.js';
import { UserError } from '../errors.js';
import { RunLock } from './run-lock.js';
import type { StatsLine } from './stats.js';

export type RunStatus = 'running' | 'done' | 'interrupted' | 'failed';

/** Contents of `run.json`. */
export interface RunJson {
  /** Version of this file's layout. */
  readonly format: 1;
  readonly config: TrainOptions;
  status: RunStatus;
  /** Of the program that wrote it. */
  readonly version: string;
  readonly pid: number;
  readonly host: string;
  /** ISO 8601. */
  readonly startedAt: string;
  /** Last sign of life, ISO 8601; more than two minutes old while "running": the process was killed. */
  heartbeat: string;
  step: number;
  nimg: number;
  readonly totalNimg: number;
  /** One line, when status is "failed". */
  error?: string;
}

const HEARTBEAT_SEC = 15;
const FOLDERS = ['samples', 'snapshots', 'state'] as const;

/** Turns a file-system error into one line for people. Others pass through. */
export function fileError(error: unknown, doing: string): unknown {
  if (error instanceof UserError || !(error instanceof Error) || !('code' in error)) return error;
  const reasons: Record<string, string> = {
    ENOSPC: 'the disk is full; free some space or choose another --out',
    EDQUOT: 'the disk quota is used up; free some space or choose another --out',
    EROFS: 'the file system is read-only; choose another --out',
    EACCES: 'permission denied; choose an --out that you may write to',
    EPERM: 'permission denied; choose an --out that you may write to',
    ENOTDIR: 'part of the path is a file; choose another --out',
    EEXIST: 'a file is in the way; choose another --out',
    ENOENT: 'it does not exist; check the path',
  };
  const reason = reasons[String(error.code)];
  if (reason === undefined) return error;
  return new UserError(`FILE_${String(error.code)}`, `cannot ${doing}: ${reason}`, { cause: error });
}

async function guarded<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, doing);
  }
}

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
      await makeFolder(out);
      if (config.nosubdir) {
        if ((await readRunJson(out)) !== null) {
          throw new UserError(
            'RUN_EXISTS',
            `${out} already holds a run; go on with --resume ${out}, or choose another --out`,
          );
        }
        return RunFolder.#start(out, init);
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
        return RunFolder.#start(dir, init);
      }
    });
  }

  /**
   * Opens the folder of an earlier run to go on in it, and locks it.
   *
   * @throws {UserError} when it is no run folder or in use
   */
  static async reopen(dir: string, init: RunFolderInit): Promise<RunFolder> {
    return guarded(`go on in ${dir}`, async () => {
      const before = await readRunJson(dir);
      if (before === null) throw notARun(dir);
      return RunFolder.#start(dir, init, before);
    });
  }

  static async #start(dir: string, init: RunFolderInit, before?: RunJson): Promise<RunFolder> {
    const lock = await RunLock.acquire(dir);
    try {
      for (const folder of FOLDERS) await mkdir(join(dir, folder), { recursive: true });
      const now = new Date().toISOString();
      const run = new RunFolder(
        dir,
        {
          format: 1,
          config: init.config,
          status: 'running',
          version: init.version,
          pid: process.pid,
          host: hostname(),
          startedAt: before?.startedAt ?? now,
          heartbeat: now,
          step: before?.step ?? 0,
          nimg: before?.nimg ?? 0,
          totalNimg: init.totalNimg,
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
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get json(): Readonly<RunJson> {
    return this.#json;
  }

  /** `samples/fakes-000120.png` and the like, inside the folder. */
  file(folder: (typeof FOLDERS)[number], name: string): string {
    return join(this.dir, folder, name);
  }

  /** Changes `run.json` and renews the heartbeat. */
  async update(change: Partial<Pick<RunJson, 'status' | 'step' | 'nimg' | 'error'>>): Promise<void> {
    this.#json = { ...this.#json, ...change, heartbeat: new Date().toISOString() };
    await this.#write();
    await this.#lock.touch();
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
      await stats.appendFile(`${JSON.stringify(line)}\n`);
      await stats.datasync();
    });
  }

  /** Writes a file inside the folder, whole or not at all. */
  async writeFile(folder: (typeof FOLDERS)[number], name: string, data: Uint8Array): Promise<string> {
    const file = this.file(folder, name);
    await guarded(`write ${file}`, () => writeFileAtomic(file, data));
    return file;
  }

  /** Records the final status and releases the lock. Safe to call twice; the first call counts. */
  async close(status: Exclude<RunStatus, 'running'>, error?: string): Promise<void> {
    if (this.#stats === null) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    const stats = this.#stats;
    this.#stats = null;
    try {
      await this.update(error === undefined ? { status } : { status, error });
    } finally {
      await stats.close();
      await this.#lock.release();
    }
  }
}

/** As `mkdir` with `recursive`, which never returns where a file system claims that an existing parent is missing (/proc). */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const info = await stat(path).catch(() => null);
    if (info?.isDirectory()) return;
    const parent = dirname(resolve(path));
    const hasParent = await stat(parent).then(
      () => true,
      () => false,
    );
    if (code !== 'ENOENT' || hasParent) throw error;
    await makeFolder(parent);
    await mkdir(path);
  }
}

async function cutTornLine(file: string): Promise<void> {
  const text = await readFile(file).catch(() => null);
  if (text === null || text.length === 0 || text[text.length - 1] === 10) return;
  await truncate(file, text.lastIndexOf(10) + 1);
}

function notARun(dir: string): UserError {
  return new UserError('NOT_A_RUN', `${dir} is not a run folder (it has no run.json); check the path`);
}

/** `run.json` of a folder, or null when there is none. @throws {UserError} when it is damaged */
export async function readRunJson(dir: string): Promise<RunJson | null> {
  const file = join(dir, 'run.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw fileError(error, `read ${file}`);
  }
  try {
    const json = JSON.parse(text) as RunJson;
    if (typeof json.status === 'string' && typeof json.config === 'object') return json;
  } catch {
    // Told below.
  }
  throw new UserError('BAD_RUN_JSON', `${file} is damaged; restore it, or start a new run with --transfer`);
}

export interface RunInfo {
  readonly dir: string;
  readonly json: RunJson;
}

/** All runs below a folder (or the folder itself, when it is one), oldest id first. */
export async function listRuns(out: string): Promise<RunInfo[]> {
  const own = await readRunJson(out);
  if (own !== null) return [{ dir: out, json: own }];
  const names = await readdir(out).catch((): string[] => []);
  const numbered = names
    .filter((name) => /^\d+-/.test(name))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  const runs: RunInfo[] = [];
  for (const name of numbered) {
    const dir = join(out, name);
    const json = await readRunJson(dir).catch(() => null);
    if (json !== null) runs.push({ dir, json });
  }
  return runs;
}

/** Files of a folder with an extension, in the order of the number in their names. */
async function numbered(dir: string, extension: RegExp): Promise<string[]> {
  const names = await readdir(dir).catch((): string[] => []);
  const key = (name: string): number => Number(/(\d+)\D*$/.exec(name)?.[1] ?? -1);
  return names
    .filter((name) => !name.startsWith('.') && extension.test(name))
    .sort((a, b) => key(a) - key(b))
    .map((name) => join(dir, name));
}

/** Newest complete training state of a run, or null. */
export async function newestState(runDir: string): Promise<string | null> {
  return (await numbered(join(runDir, 'state'), /\.(safetensors|state)$/)).at(-1) ?? null;
}

/** Newest network snapshot of a run, or null. */
export async function newestSnapshot(runDir: string): Promise<string | null> {
  return (await numbered(join(runDir, 'snapshots'), /\.safetensors$/)).at(-1) ?? null;
}

/** All snapshots of a run, oldest first. */
export function listSnapshots(runDir: string): Promise<string[]> {
  return numbered(join(runDir, 'snapshots'), /\.safetensors$/);
}

/**
 * Finds what `--resume` means: a run folder, a state file inside one, or (`newest`) the newest run below `out`
 * that has a state.
 *
 * @throws {UserError} when there is nothing to resume
 */
export async function findResume(
  resume: string,
  out: string,
): Promise<{ runDir: string; state: string; json: RunJson }> {
  if (resume === 'newest') {
    for (const run of (await listRuns(out)).reverse()) {
      const state = await newestState(run.dir);
      if (state !== null) return { runDir: run.dir, state, json: run.json };
    }
    throw new UserError(
      'NOTHING_TO_RESUME',
      `no run with a saved state in ${out}; name one: --resume RUN_FOLDER`,
    );
  }
  const info = await stat(resume).catch((error: unknown) => {
    throw fileError(error, `resume from ${resume}`);
  });
  const runDir = info.isDirectory() ? resume : join(resume, '..', '..');
  const json = await readRunJson(runDir);
  if (json === null) throw notARun(runDir);
  const state = info.isDirectory() ? await newestState(resume) : resume;
  if (state === null) {
    throw new UserError(
      'NOTHING_TO_RESUME',
      `${resume} has no saved state yet; start a new run, with --transfer from its newest snapshot if it has one`,
    );
  }
  return { runDir, state, json };
}
