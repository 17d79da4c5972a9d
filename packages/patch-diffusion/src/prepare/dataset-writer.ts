/**
 * Writes a dataset in the reference's layout, as a zip (stored entries, all dated 1980-01-01) or as a folder.
 *
 * The same images give the same bytes on every machine. The dataset appears under its name only when it is complete:
 * it is written beside it under another name, flushed, then renamed.
 */
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { removeLeftovers, temporaryPath } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { isAlive } from '@patch-diffusion/torch/process-alive';
import { UserError } from '../common/errors.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from '../data/concurrency.js';
import { ZipEncoder } from '../formats/zip-writer.js';

/** Takes the files of a dataset one after another. */
export interface DatasetWriter {
  /** Adds a file; resolves when more can be taken. @throws UserError if it cannot be written */
  add(name: string, data: Uint8Array): Promise<void>;
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
  await settleReplaced(target);
  await checkTarget(path, force);
  const temporary = temporaryPath(target);
  try {
    makeFolder(dirname(target));
    await removeLeftovers(dirname(target));
    if (isZipPath(target)) return new ZipWriter(temporary, target, await open(temporary, 'wx'));
    await mkdir(temporary);
    return new FolderWriter(temporary, target);
  } catch (error) {
    throw writeError(error, path);
  }
}

function isZipPath(path: string): boolean {
  return extname(path).toLowerCase() === '.zip';
}

/** @throws UserError if something is at `path` that a new dataset may not replace */
export async function checkTarget(path: string, force: boolean): Promise<void> {
  const target = resolve(path);
  const info = await stat(target).catch(() => null);
  if (info === null) return;
  if (!info.isDirectory()) {
    if (isZipPath(target) && force) return;
    throw inTheWay(`${path} exists already`, isZipPath(target));
  }
  const names = isZipPath(target) ? ['?'] : await readdir(target).catch(() => ['?']);
  // Never remove a folder that may hold something else than a dataset of ours.
  const isDataset = names.every((name) => name === 'dataset.json' || /^\d{5}$/.test(name));
  if (names.length > 0 && !(isDataset && force))
    throw inTheWay(`${path} is a folder that is not empty`, isDataset);
  if (info.dev !== (await stat(dirname(target))).dev) {
    throw new UserError(
      'OUT_EXISTS',
      `${path} is a disk of its own, which cannot be replaced; write to a folder in it, such as ${join(path, 'data')}`,
    );
  }
}

/** {@link checkTarget} for a file of latents. */
export async function checkLatentTarget(path: string, force: boolean): Promise<void> {
  const info = await stat(path).catch(() => null);
  if (info === null || (info.isFile() && force)) return;
  throw inTheWay(`${path} exists already`, info.isFile());
}

function inTheWay(what: string, isReplaceable: boolean): UserError {
  const remedy = isReplaceable ? 'choose another name, or replace it with --force' : 'choose another name';
  return new UserError('OUT_EXISTS', `${what}; ${remedy}`);
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

/** So much is written at once. */
const WRITE_BYTES = 2 ** 20;

class ZipWriter implements DatasetWriter {
  readonly #zip = new ZipEncoder();
  #bytes = 0;
  /** What is not written yet. */
  #parts: Uint8Array[] = [];
  #partBytes = 0;

  readonly #temporary: string;
  readonly #target: string;
  readonly #file: FileHandle;

  constructor(temporary: string, target: string, file: FileHandle) {
    this.#temporary = temporary;
    this.#target = target;
    this.#file = file;
  }

  async add(name: string, data: Uint8Array): Promise<void> {
    this.#take(this.#zip.header(name, data));
    this.#take(data);
    if (this.#partBytes >= WRITE_BYTES) await this.#write();
  }

  async finish(): Promise<number> {
    this.#take(this.#zip.end());
    await this.#write();
    try {
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#temporary, this.#target);
      return this.#bytes;
    } catch (error) {
      throw writeError(error, this.#target);
    }
  }

  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(this.#temporary, { force: true });
  }

  #take(data: Uint8Array): void {
    this.#parts.push(data);
    this.#partBytes += data.length;
  }

  async #write(): Promise<void> {
    const data = Buffer.concat(this.#parts);
    [this.#parts, this.#partBytes] = [[], 0];
    try {
      await this.#file.writeFile(data); // at the current position, all of it
    } catch (error) {
      throw writeError(error, this.#target);
    }
    this.#bytes += data.length;
  }
}

class FolderWriter implements DatasetWriter {
  readonly #folders = new Set<string>();
  readonly #files: string[] = [];
  #bytes = 0;

  readonly #temporary: string;
  readonly #target: string;

  constructor(temporary: string, target: string) {
    this.#temporary = temporary;
    this.#target = target;
  }

  async add(name: string, data: Uint8Array): Promise<void> {
    const folder = dirname(name);
    try {
      if (!this.#folders.has(folder)) await mkdir(join(this.#temporary, folder), { recursive: true });
      this.#folders.add(folder);
      await writeFile(join(this.#temporary, name), data);
    } catch (error) {
      throw writeError(error, this.#target);
    }
    this.#files.push(name);
    this.#bytes += data.length;
  }

  async finish(): Promise<number> {
    try {
      // At the end, when the system has written most of it by itself: far quicker than after each file.
      await forEachConcurrently([...this.#files, ...this.#folders], DECODE_CONCURRENCY, (name) =>
        sync(join(this.#temporary, name)),
      );
      await replaceFolder(this.#temporary, this.#target);
      return this.#bytes;
    } catch (error) {
      throw writeError(error, this.#target);
    }
  }

  async discard(): Promise<void> {
    await rm(this.#temporary, { recursive: true, force: true });
  }
}

/** Puts `made` in the place of `target`, which is deleted last: whatever fails, one of them is there. */
async function replaceFolder(made: string, target: string): Promise<void> {
  const old = join(dirname(target), `.${basename(target)}.${process.pid}.old`);
  const isThere = await rename(target, old).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return false;
    },
  );
  try {
    await rename(made, target);
  } catch (error) {
    if (isThere) await rename(old, target);
    throw error;
  }
  if (isThere) await rm(old, { recursive: true, force: true });
}

/**
 * What a process that was killed in {@link replaceFolder} has left: the old dataset goes back to its name, unless the
 * new one is there.
 */
async function settleReplaced(target: string): Promise<void> {
  const folder = dirname(target);
  for (const name of await readdir(folder).catch(() => [])) {
    const found = /^\.(?<of>.+)\.(?<pid>\d+)\.old$/.exec(name)?.groups;
    if (found?.of !== basename(target)) continue;
    const owner = Number(found.pid);
    if (owner !== process.pid && isAlive(owner)) continue;
    const old = join(folder, name);
    const isThere = await stat(target).then(
      () => true,
      () => false,
    );
    try {
      if (isThere) await rm(old, { recursive: true, force: true });
      else await rename(old, target);
    } catch (error) {
      throw writeError(error, target);
    }
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems do not flush folders.
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  } finally {
    await handle.close();
  }
}
