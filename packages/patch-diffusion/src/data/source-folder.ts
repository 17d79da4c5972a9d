/**
 * A folder of image files, searched recursively. Links are followed, each folder is entered once (so loops end), and
 * whatever cannot be read is reported, not fatal.
 */
import { createHash } from 'node:crypto';
import { type Dirent, readFileSync } from 'node:fs';
import { open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { UserError } from '../common/errors.js';
import {
  type DecodeOptions,
  decodeImage,
  type ImageHeader,
  MAX_FILE_BYTES,
  readImageHeader,
  UnusableImage,
} from './decode.js';
import type { FilePlace, ImageSource } from './image-source.js';
import { MAX_JSON_BYTES } from './labels.js';
import { classifyContent, classifyName, compareNames, HEAD_BYTES, sortSkipped } from './names.js';
import type { RawImage } from './resize.js';
import type { SkippedFile } from './types.js';

/**
 * @param exclude a file or folder that is left out
 * @throws UserError if the folder itself cannot be listed
 */
export async function openFolder(path: string, exclude?: string): Promise<ImageSource> {
  const excluded = exclude === undefined ? null : resolve(exclude);
  const found: FoundFile[] = [];
  const skipped: SkippedFile[] = [];
  const entered = new Set<string>();
  // Linked folders come last, so that a file is named by its real place when there is one.
  const folders = [''];
  const linkedFolders: string[] = [];
  for (;;) {
    const folder = folders.pop() ?? linkedFolders.pop();
    if (folder === undefined) break;
    let entries: Dirent[];
    try {
      const real = await realpath(join(path, folder));
      if (entered.has(real)) continue;
      entered.add(real);
      entries = await readdir(real, { withFileTypes: true });
    } catch (error) {
      if (folder === '') {
        throw new UserError(
          'DATA_NO_PERMISSION',
          `Cannot list ${path}: ${why(error)}; check its access rights`,
          {
            cause: error,
          },
        );
      }
      skipped.push({ file: folder, reason: why(error) });
      continue;
    }
    const nameOf = (entry: Dirent) => (folder === '' ? entry.name : `${folder}/${entry.name}`);
    // All at once: one after another, thousands of files take a second.
    const infos = entries.map((entry) =>
      entry.isSymbolicLink() || (!entry.isDirectory() && classifyName(nameOf(entry)) !== null)
        ? stat(join(path, nameOf(entry))).catch((error: Error) => error)
        : null,
    );
    for (const [i, entry] of entries.entries()) {
      const name = nameOf(entry);
      if (resolve(path, name) === excluded) continue;
      if (entry.isDirectory()) {
        if (!entry.name.startsWith('.') && entry.name !== '__MACOSX') folders.push(name);
        continue;
      }
      let kind = classifyName(name);
      try {
        const info = await infos[i];
        if (info === null) continue;
        if (info instanceof Error) throw info;
        if (info.isDirectory()) {
          if (!entry.name.startsWith('.')) linkedFolders.push(name);
          continue;
        }
        if (kind === 'unsure')
          kind = info.isFile() ? classifyContent(name, await readHead(join(path, name))) : null;
        if (kind === 'image') {
          // A pipe named like an image would block its reader for ever.
          if (info.isFile()) found.push({ name, bytes: info.size, changed: [info.mtimeMs, info.ctimeMs] });
          else skipped.push({ file: name, reason: 'not a regular file' });
        } else if (kind !== null) {
          skipped.push({ file: name, reason: kind.reason });
        }
      } catch (error) {
        // Node puts this character where it cannot read a name, which it then does not find.
        const reason = name.includes('\uFFFD') ? 'its name is not valid UTF-8; rename it' : why(error);
        if (kind !== null && kind !== 'unsure') skipped.push({ file: name, reason });
      }
    }
  }
  found.sort((a, b) => compareNames(a.name, b.name));
  sortSkipped(skipped);
  return new FolderSource(path, found, skipped, await readDatasetJson(path));
}

async function readHead(file: string): Promise<Uint8Array> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function readDatasetJson(path: string): Promise<string | null> {
  try {
    const file = join(path, 'dataset.json');
    const { size } = await stat(file);
    if (size > MAX_JSON_BYTES) throw new Error(`larger than ${MAX_JSON_BYTES / 2 ** 20} MiB`);
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new UserError(
      'DATA_LABELS',
      `Cannot read ${join(path, 'dataset.json')}: ${why(error)}; fix or remove it`,
      {
        cause: error,
      },
    );
  }
}

/** Reads and decodes a file, in a thread that may wait for the disk. @throws UnusableImage */
export const decodeFileNow = (place: FilePlace, options: DecodeOptions): Promise<RawImage> =>
  decodeFile(place, options, readFileSync);

async function decodeFile(
  { file, bytes: size }: FilePlace,
  options: DecodeOptions | undefined,
  read: (file: string) => Buffer | Promise<Buffer>,
): Promise<RawImage> {
  if (size > MAX_FILE_BYTES) throw new UnusableImage(`larger than ${MAX_FILE_BYTES / 2 ** 20} MiB`);
  let bytes: Uint8Array;
  try {
    bytes = await read(file);
  } catch (error) {
    throw new UnusableImage(why(error));
  }
  return decodeImage(bytes, options);
}

interface FoundFile {
  readonly name: string;
  readonly bytes: number;
  /** Times of the last changes of contents and of anything. */
  readonly changed: readonly number[];
}

class FolderSource implements ImageSource {
  readonly kind = 'folder';
  readonly classes = null;
  readonly names: readonly string[];
  readonly bytes: number;

  readonly #files: readonly FoundFile[];

  constructor(
    readonly path: string,
    files: readonly FoundFile[],
    readonly skipped: readonly SkippedFile[],
    readonly datasetJson: string | null,
  ) {
    this.#files = files;
    this.names = files.map((file) => file.name);
    this.bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  }

  async header(index: number): Promise<ImageHeader> {
    const file = join(this.path, this.names[index]);
    // Looked at first because libvips names every failure the same way.
    await checkReadable(file);
    return readImageHeader(file);
  }

  decode(index: number, options?: DecodeOptions): Promise<RawImage> {
    return decodeFile(this.place(index), options, readFile);
  }

  place(index: number): FilePlace {
    const { name, bytes } = this.#files[index];
    return { file: join(this.path, name), bytes };
  }

  stamp(): string {
    const hash = createHash('sha256').update(JSON.stringify(this.skipped));
    for (const file of this.#files) hash.update(JSON.stringify(file));
    return hash.digest('hex');
  }

  async close(): Promise<void> {}
}

async function checkReadable(file: string): Promise<void> {
  let size: number;
  try {
    const handle = await open(file);
    try {
      size = (await handle.stat()).size;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new UnusableImage(why(error));
  }
  if (size === 0) throw new UnusableImage('empty file');
}

/** A short phrase for an error of the file system. */
function why(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'no longer there, or a broken link';
  if (code === 'EACCES' || code === 'EPERM') return 'no permission to read it';
  if (code === 'ELOOP') return 'a link that leads in a circle';
  return code ?? message;
}
