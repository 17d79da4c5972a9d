/** Finding runs, and reading what they have written; the layout is in run-folder.ts. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isAlive } from '@patch-diffusion/torch/process-alive';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { fileError } from '../common/file-error.js';
import type { TrainOptions } from '../config/train-options.js';
import { nimgInName } from './file-names.js';

export type RunStatus = 'running' | 'done' | 'interrupted' | 'failed';

/** Contents of `run.json`. */
export interface RunJson {
  /** Version of this file's layout. */
  readonly format: typeof RUN_JSON_FORMAT;
  readonly config: TrainOptions;
  /** Folder that the paths in `config` are relative to; absent in runs of version 0.1.0. */
  readonly workingFolder?: string;
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
  /** How many processes `train` started on this machine; a resumed run has as many. Absent: one, or another program started them. */
  readonly processes?: number;
  /**
   * Why the last process ended: `duration`, `time`, `memorising` or `interrupted`, or the code of the error, such as `DIVERGED`,
   * `DATA_STALLED` or `FILE_ENOSPC`. Absent while it runs, when it was killed, and in runs of version 0.1.0.
   */
  reason?: string;
  /** One line, when status is "failed". */
  error?: string;
}

/** A heartbeat older than this: the process is gone. */
const KILLED_AFTER_SEC = 120;

/** The status of a run, or `killed` when it says running but its process gives no sign of life. */
export function liveStatus({ status, heartbeat, host, pid }: RunJson): RunStatus | 'killed' {
  if (status !== 'running') return status;
  const silentSec = (Date.now() - Date.parse(heartbeat)) / 1000;
  const isGone = silentSec > KILLED_AFTER_SEC || (host === hostname() && !isAlive(pid));
  return isGone ? 'killed' : 'running';
}

/** Version of the layout of `run.json`. */
export const RUN_JSON_FORMAT = 1;

/** What readers rely on. The options in `config` are checked one by one when the run is resumed. */
const schema = z.looseObject({
  format: z.int().min(1),
  config: z.looseObject({ data: z.string(), preset: z.string() }),
  workingFolder: z.string().optional(),
  status: z.enum(['running', 'done', 'interrupted', 'failed']),
  version: z.string(),
  pid: z.number(),
  host: z.string(),
  startedAt: z.string(),
  heartbeat: z.string(),
  step: z.number(),
  nimg: z.number(),
  totalNimg: z.number(),
  processes: z.int().min(1).optional(),
  reason: z.string().optional(),
  error: z.string().optional(),
});

/** The error for a folder without a run. */
export function notARun(dir: string): UserError {
  return new UserError('NOT_A_RUN', `${dir} is not a run folder (it has no run.json); check the path`);
}

/**
 * `run.json` of a folder, or null when there is none. @throws {UserError} when it is damaged
 * @example
 * ```ts
 * const run = await readRunJson('runs/00000-photos');
 * if (run === null) throw new Error('not a run folder');
 * console.log(run.status, `${run.nimg} of ${run.totalNimg} images`);
 * ```
 */
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
  const damaged = (what: string) =>
    new UserError(
      'BAD_RUN_JSON',
      `${file} is damaged (${what}); restore it, or start a new run with --transfer`,
    );
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw damaged('it is not JSON');
  }
  const { success, data, error } = schema.safeParse(json);
  if (!success) throw damaged(`${error.issues[0].path.join('.') || 'it'} is missing or of another type`);
  if (data.format <= RUN_JSON_FORMAT) return json as RunJson;
  throw new UserError(
    'FILE_TOO_NEW',
    `${file} was written by a newer version of this program; update to read it`,
  );
}

export interface RunInfo {
  readonly dir: string;
  readonly json: RunJson;
}

/**
 * All runs below a folder (or the folder itself, when it is one), oldest id first.
 * @example
 * ```ts
 * for (const { dir, json } of await listRuns('runs')) console.log(dir, json.status, json.nimg);
 * ```
 */
export async function listRuns(out: string): Promise<RunInfo[]> {
  const own = await readRunJson(out);
  if (own !== null) return [{ dir: out, json: own }];
  const runs: RunInfo[] = [];
  for (const name of await runFolderNames(out).catch((): string[] => [])) {
    const dir = join(out, name);
    const json = await readRunJson(dir).catch(() => null);
    if (json !== null) runs.push({ dir, json });
  }
  return runs;
}

/** Names of the folders of runs in a folder, oldest id first. @throws what reading the folder throws */
export async function runFolderNames(out: string): Promise<string[]> {
  const names = await readdir(out);
  return names
    .filter((name) => /^\d+-/.test(name))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

/** Files of a folder with an extension, in the order of the images in their names. */
async function numbered(dir: string, extension: RegExp): Promise<string[]> {
  const names = await readdir(dir).catch((): string[] => []);
  return names
    .filter((name) => !name.startsWith('.') && extension.test(name))
    .sort((a, b) => nimgInName(a) - nimgInName(b))
    .map((name) => join(dir, name));
}

/**
 * All training states of a run, oldest first.
 * @example
 * ```ts
 * const states = await listStates('runs/00000-photos'); // …/state/training-state-000001.safetensors, …
 * ```
 */
export function listStates(runDir: string): Promise<string[]> {
  return numbered(join(runDir, 'state'), /\.safetensors$/);
}

/**
 * Newest complete training state of a run, or null.
 * @example
 * ```ts
 * const state = await newestState('runs/00000-photos'); // null before the first one
 * ```
 */
export async function newestState(runDir: string): Promise<string | null> {
  return (await listStates(runDir)).at(-1) ?? null;
}

/**
 * Newest network snapshot of a run, or null.
 * @example
 * ```ts
 * const snapshot = await newestSnapshot('runs/00000-photos'); // null before the first one
 * ```
 */
export async function newestSnapshot(runDir: string): Promise<string | null> {
  return (await listSnapshots(runDir)).at(-1) ?? null;
}

/**
 * All snapshots of a run, oldest first.
 * @example
 * ```ts
 * const snapshots = await listSnapshots('runs/00000-photos'); // …/snapshots/network-snapshot-000001.safetensors, …
 * ```
 */
export function listSnapshots(runDir: string): Promise<string[]> {
  return numbered(join(runDir, 'snapshots'), /\.safetensors$/);
}

/** Where a run keeps its power-function averages. */
export const AVERAGES_FOLDER = 'averages';

/** All stored power-function averages of a run, oldest first. */
export function listAverages(runDir: string): Promise<string[]> {
  return numbered(join(runDir, AVERAGES_FOLDER), /^power-averages-.*\.safetensors$/);
}

/**
 * All sample sheets of a run, oldest first.
 * @example
 * ```ts
 * const sheets = await listSheets('runs/00000-photos'); // …/samples/fakes-000001.png, …
 * ```
 */
export function listSheets(runDir: string): Promise<string[]> {
  return numbered(join(runDir, 'samples'), /\.png$/);
}

/** Where a run keeps sheets of the samples that are nearest to training images. */
export const NEAREST_FOLDER = 'nearest';

/** All sheets of nearest training images, of the evaluations that drew them, oldest first. */
export function listNearest(runDir: string): Promise<string[]> {
  return numbered(join(runDir, NEAREST_FOLDER), /\.png$/);
}

/**
 * Finds what `--resume` means: a run folder, a state file inside one, or (`newest`) the newest run below
 * `out` that has a state.
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
