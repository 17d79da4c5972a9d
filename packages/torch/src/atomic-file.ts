/**
 * Files that appear whole or not at all: write beside the target, fsync, rename, fsync the folder.
 * A crash leaves either the old file or the new one; a failure removes the unfinished copy and throws a
 * {@link FileWriteError} that says what to do. Symbolic links are replaced, not followed.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** What {@link writeFileAtomic} accepts: whole contents, or parts that are written as they come. */
export type AtomicFileData =
  | string
  | Uint8Array
  | Iterable<Uint8Array | string>
  | AsyncIterable<Uint8Array | string>;

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
  const tmp = temporaryName(path);
  let file: FileHandle;
  try {
    file = await open(tmp, 'wx');
  } catch (error) {
    throw describe(path, error);
  }
  try {
    try {
      for await (const part of parts(data)) {
        // A partial write (disk nearly full) is continued until the system says what is wrong.
        const bytes = typeof part === 'string' ? Buffer.from(part) : part;
        for (let at = 0; at < bytes.length; ) {
          at += (await guard(path, file.write(bytes, at, Math.min(bytes.length - at, 1 << 30)))).bytesWritten;
        }
      }
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

/**
 * Removes what writers that were killed left in a folder. Only for a folder that no other process writes to.
 * @returns the names of the files removed
 */
export async function removeLeftovers(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).filter((name) => LEFTOVER.test(name));
  await Promise.all(names.map((name) => rm(join(folder, name), { force: true })));
  return names;
}

const LEFTOVER = /^\..+\.\d+-[0-9a-f]{8}\.tmp$/;

/** Beside the target (rename must stay inside one file system), hidden, and unlike any other writer's. */
function temporaryName(path: string): string {
  // 200 bytes of the name keep the whole below the usual limit of 255.
  const stem = basename(path).slice(0, 60);
  return join(dirname(path), `.${stem}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
}

async function* parts(data: AtomicFileData): AsyncGenerator<Uint8Array | string> {
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
