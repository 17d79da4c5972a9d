/**
 * Files that are replaced whole or not at all: write to a temporary file in the same folder, fsync, rename, fsync
 * the folder. A failure removes the temporary file and throws a {@link FileWriteError} that says what to do. The
 * temporary file of a process that was killed is removed by the next one that writes to the folder. Symbolic links
 * are replaced, not followed.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { isAlive } from './process-alive.js';

/** A part of a file; one with a position replaces bytes that were written before. */
export type AtomicFilePart = string | Uint8Array | { readonly at: number; readonly bytes: Uint8Array };

/** What {@link writeFileAtomic} accepts: whole contents, or parts that are written as they come. */
export type AtomicFileData = string | Uint8Array | Iterable<AtomicFilePart> | AsyncIterable<AtomicFilePart>;

/** A file could not be written; `code` is the system's (`ENOSPC`, `EACCES`, …), `path` the intended file. */
export class FileWriteError extends Error {
  override readonly name = 'FileWriteError';
  readonly code: string;
  readonly path: string;

  constructor(path: string, code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.path = path;
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space or choose another folder',
  EDQUOT: 'the disk quota is used up; free some space or choose another folder',
  EROFS: 'the file system is read-only; choose another folder',
  EACCES: 'permission denied; choose a folder that you may write to',
  EPERM: 'permission denied; choose a folder that you may write to',
  ENOENT: 'its folder does not exist; create it first',
  ENOTDIR: 'a part of its path is a file, not a folder',
  EISDIR: 'a folder of that name is in the way',
  ENOTEMPTY: 'a folder of that name is in the way',
  ENAMETOOLONG: 'the name is too long',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
  EFBIG: 'the file would be larger than this file system allows',
  EIO: 'the disk reports an input/output error',
};

/**
 * Writes `data` to `path` so that readers see the old contents or the new ones, never a part.
 *
 * @param data - Contents, or an (async) iterable of parts; an iterable that throws leaves `path` untouched and
 *   its own error is passed on.
 * @throws FileWriteError if the file system refuses (disk full, read-only, no such folder, …).
 */
export async function writeFileAtomic(path: string, data: AtomicFileData): Promise<void> {
  const tmp = temporaryPath(path);
  await cleanOnce(dirname(tmp));
  let file: FileHandle;
  try {
    file = await open(tmp, 'wx');
  } catch (error) {
    throw describe(path, error);
  }
  try {
    try {
      for await (const part of parts(data)) await guard(path, writePart(file, part));
      await guard(path, file.sync());
    } finally {
      await file.close();
    }
    await guard(path, rename(tmp, path));
  } catch (error) {
    await rm(tmp, { force: true }).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

async function writePart(file: FileHandle, part: AtomicFilePart): Promise<void> {
  const at = typeof part === 'string' || part instanceof Uint8Array ? null : part.at;
  const bytes = typeof part === 'string' ? Buffer.from(part) : part instanceof Uint8Array ? part : part.bytes;
  // A partial write (disk nearly full) is continued until the system says what is wrong.
  for (let done = 0; done < bytes.length; ) {
    const length = Math.min(bytes.length - done, 1 << 30);
    done += (await file.write(bytes, done, length, at === null ? null : at + done)).bytesWritten;
  }
}

/** This machine in file names. */
const HOST = hostname().replace(/\W+/g, '_').slice(0, 30);

/**
 * A path for an unfinished file or folder that is renamed to `target` when it is complete: in the same folder
 * (a rename must stay inside one file system), hidden, and different at each call.
 * {@link removeLeftovers} removes it when this process ends before that.
 */
export function temporaryPath(target: string): string {
  // 60 characters of the name, at most 180 bytes, keep the whole below the usual limit of 255 bytes.
  const stem = basename(target).slice(0, 60);
  const unique = `${HOST}-${process.pid}-${randomBytes(4).toString('hex')}`;
  return join(dirname(resolve(target)), `.${stem}.${unique}.tmp`);
}

/** Names of {@link temporaryPath}; host and random part were absent from earlier versions' names. */
const TEMPORARY = /^\..+?\.(?:(\w+)-(?=\d+-))?(\d+)(?:-[0-9a-f]{8})?\.tmp$/;

/** A file of another machine, whose processes cannot be seen from here, is a leftover when unchanged for so long. */
const ABANDONED_MS = 24 * 3_600_000;

/**
 * Removes the files and folders with a {@link temporaryPath} whose process was killed.
 *
 * @returns The names of those removed; none where the folder cannot be read.
 */
export async function removeLeftovers(folder: string): Promise<string[]> {
  const removed: string[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    const [, host = HOST, pid] = TEMPORARY.exec(name) ?? [];
    const path = join(folder, name);
    if (pid === undefined || (await isInUse(path, host, Number(pid)))) continue;
    await rm(path, { recursive: true, force: true }).catch(() => {});
    removed.push(name);
  }
  return removed;
}

async function isInUse(path: string, host: string, pid: number): Promise<boolean> {
  if (host === HOST && pid !== process.pid) return isAlive(pid);
  const changed = await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => Number.POSITIVE_INFINITY,
  );
  // In a container each run may have the same process number: what is older than this process is not its own.
  const oldest = host === HOST ? Date.now() - process.uptime() * 1000 : Date.now() - ABANDONED_MS;
  return changed >= oldest;
}

const cleaned = new Set<string>();

/** Looks for leftovers at the first write to a folder only: it may hold thousands of files. */
async function cleanOnce(folder: string): Promise<void> {
  if (cleaned.has(folder)) return;
  cleaned.add(folder);
  await removeLeftovers(folder);
}

async function* parts(data: AtomicFileData): AsyncGenerator<AtomicFilePart> {
  if (typeof data === 'string' || data instanceof Uint8Array) yield data;
  else yield* data;
}

async function guard<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw describe(path, error);
  }
}

function describe(path: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return error;
  const reason = REMEDIES[error.code] ?? error.message;
  return new FileWriteError(path, error.code, `cannot write ${path}: ${reason} (${error.code})`, {
    cause: error,
  });
}

/** Makes the rename itself durable; some file systems and Windows do not allow it, and lose nothing else. */
async function syncFolder(folder: string): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(folder, 'r');
    await handle.sync();
  } catch {
    // The file is whole either way.
  } finally {
    await handle?.close();
  }
}
