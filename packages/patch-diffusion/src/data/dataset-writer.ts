/**
 * Writes a dataset in the reference's layout, as a zip (stored entries, all dated 1980-01-01) or as a folder.
 *
 * The same images give the same bytes on every machine. The dataset appears under its name only when it is complete:
 * it is written beside it under another name, then renamed.
 */
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import yazl from 'yazl';
import { UserError } from '../errors.js';

/** Takes the files of a dataset one after another. */
export interface DatasetWriter {
  /** Adds a file; resolves when more can be taken. @throws UserError if it cannot be written */
  add(name: string, data: Buffer): Promise<void>;
  /** Completes the dataset and puts it under its name. @returns its size in bytes */
  finish(): Promise<number>;
  /** Removes everything written so far. */
  discard(): Promise<void>;
}

/**
 * Begins a dataset at `path`: a zip if it ends in `.zip`, else a folder.
 *
 * @param force replace a dataset that is there (a folder only if it is a dataset)
 * @throws UserError if something is there already or the place cannot be written to
 */
export async function createDatasetWriter(path: string, { force = false } = {}): Promise<DatasetWriter> {
  const target = resolve(path);
  await checkTarget(target, path, force);
  const temporary = join(dirname(target), `.${basename(target)}.${process.pid}.tmp`);
  try {
    await mkdir(dirname(target), { recursive: true });
    await rm(temporary, { recursive: true, force: true });
    if (isZipPath(target)) return await ZipWriter.create(temporary, target);
    await mkdir(temporary);
    return new FolderWriter(temporary, target);
  } catch (error) {
    throw writeError(error, path);
  }
}

export function isZipPath(path: string): boolean {
  return extname(path).toLowerCase() === '.zip';
}

async function checkTarget(target: string, path: string, force: boolean): Promise<void> {
  const info = await stat(target).catch(() => null);
  if (info === null) return;
  if (!info.isDirectory()) {
    if (isZipPath(target) && force) return;
    const remedy = isZipPath(target)
      ? 'choose another name, or replace it with --force'
      : 'choose another name';
    throw new UserError('OUT_EXISTS', `${path} exists already; ${remedy}`);
  }
  const names = isZipPath(target) ? ['?'] : await readdir(target).catch(() => ['?']);
  if (names.length === 0) return;
  // Never remove a folder that may hold something else than a dataset of ours.
  const isDataset = names.every((name) => name === 'dataset.json' || /^\d{5}$/.test(name));
  if (isDataset && force) return;
  const remedy = isDataset ? 'choose another name, or replace it with --force' : 'choose another name';
  throw new UserError('OUT_EXISTS', `${path} is a folder that is not empty; ${remedy}`);
}

/** A file system's refusal as an error for people. */
export function writeError(error: unknown, path: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined || error instanceof UserError) return error;
  const reasons: Record<string, string> = {
    ENOSPC: 'the disk is full; free some space or write to another disk',
    EDQUOT: 'your disk quota is used up; free some space or write to another disk',
    EROFS: 'the disk is read-only; write to another place',
    EACCES: 'no permission; write to another place, or change its access rights',
    EPERM: 'no permission; write to another place, or change its access rights',
    ENOTDIR: 'a part of the path is a file, not a folder; write to another place',
    EEXIST: 'a part of the path is a file, not a folder; write to another place',
  };
  return new UserError(
    'OUT_WRITE',
    `Cannot write ${path}: ${reasons[code] ?? `${message}; write to another place`}`,
    {
      cause: error,
    },
  );
}

/** Bytes that may wait to be written. */
const MAX_PENDING_BYTES = 16 * 2 ** 20;

class ZipWriter implements DatasetWriter {
  private readonly zip = new yazl.ZipFile();
  private addedBytes = 0;
  private failure: unknown = null;

  private constructor(
    private readonly temporary: string,
    private readonly target: string,
    private readonly stream: WriteStream,
  ) {
    stream.on('error', (error) => {
      this.failure ??= error;
    });
    this.zip.outputStream.pipe(stream);
  }

  static async create(temporary: string, target: string): Promise<ZipWriter> {
    const stream = createWriteStream(temporary, { flags: 'wx' });
    await once(stream, 'open');
    return new ZipWriter(temporary, target, stream);
  }

  async add(name: string, data: Buffer): Promise<void> {
    this.zip.addBuffer(data, name, {
      compress: false,
      // Zip dates are local times: this one is 1980-01-01 00:00 everywhere.
      mtime: new Date(1980, 0, 1),
      forceDosTimestamp: true,
      mode: 0o100644,
    });
    this.addedBytes += data.length;
    while (this.failure === null && this.addedBytes - this.stream.bytesWritten > MAX_PENDING_BYTES) {
      await once(this.stream, 'drain').catch(() => undefined); // a failure is reported below
    }
    this.throwFailure();
  }

  async finish(): Promise<number> {
    this.throwFailure();
    this.zip.end();
    try {
      if (!this.stream.closed) await once(this.stream, 'close');
    } catch (error) {
      this.failure ??= error;
    }
    this.throwFailure();
    try {
      await sync(this.temporary);
      const { size } = await stat(this.temporary);
      await rename(this.temporary, this.target);
      return size;
    } catch (error) {
      throw writeError(error, this.target);
    }
  }

  async discard(): Promise<void> {
    this.zip.outputStream.unpipe(this.stream);
    this.stream.destroy();
    if (!this.stream.closed) await once(this.stream, 'close').catch(() => undefined);
    await rm(this.temporary, { force: true });
  }

  private throwFailure(): void {
    if (this.failure !== null) throw writeError(this.failure, this.target);
  }
}

class FolderWriter implements DatasetWriter {
  private readonly made = new Set<string>();
  private bytes = 0;

  constructor(
    private readonly temporary: string,
    private readonly target: string,
  ) {}

  async add(name: string, data: Buffer): Promise<void> {
    const folder = dirname(name);
    try {
      if (!this.made.has(folder)) await mkdir(join(this.temporary, folder), { recursive: true });
      this.made.add(folder);
      await writeFile(join(this.temporary, name), data);
    } catch (error) {
      throw writeError(error, this.target);
    }
    this.bytes += data.length;
  }

  async finish(): Promise<number> {
    try {
      // Checked when we began: what is there is empty, or a dataset to be replaced.
      await rm(this.target, { recursive: true, force: true });
      await rename(this.temporary, this.target);
      return this.bytes;
    } catch (error) {
      throw writeError(error, this.target);
    }
  }

  async discard(): Promise<void> {
    await rm(this.temporary, { recursive: true, force: true });
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
