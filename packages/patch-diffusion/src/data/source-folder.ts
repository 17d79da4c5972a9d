/**
 * A folder of image files, searched recursively. Links are followed, each folder is entered once (so loops end), and
 * whatever cannot be read is reported, not fatal.
 */
import type { Dirent } from 'node:fs';
import { open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { UserError } from '../common/errors.js';
import { decodeImage, type ImageHeader, MAX_FILE_BYTES, readImageHeader, UnusableImage } from './decode.js';
import type { ImageSource } from './image-source.js';
import { classifyName, compareNames, sortSkipped } from './names.js';
import type { RawImage } from './resize.js';
import type { SkippedFile } from './types.js';

/**
 * @param exclude a file or folder that is left out
 * @throws UserError if the folder itself cannot be listed
 */
export async function openFolder(path: string, exclude?: string): Promise<ImageSource> {
  const excluded = exclude === undefined ? null : resolve(exclude);
  const found: { name: string; bytes: number }[] = [];
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
    for (const entry of entries) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (resolve(path, name) === excluded) continue;
      if (entry.isDirectory()) {
        if (!entry.name.startsWith('.') && entry.name !== '__MACOSX') folders.push(name);
        continue;
      }
      const kind = classifyName(name);
      try {
        if (!entry.isSymbolicLink() && kind === null) continue;
        const info = await stat(join(path, name));
        if (info.isDirectory()) {
          if (!entry.name.startsWith('.')) linkedFolders.push(name);
        } else if (kind === 'image') {
          // A pipe named like an image would block its reader for ever.
          if (info.isFile()) found.push({ name, bytes: info.size });
          else skipped.push({ file: name, reason: 'not a regular file' });
        } else if (kind !== null) {
          skipped.push({ file: name, reason: kind.reason });
        }
      } catch (error) {
        // Node puts this character where it cannot read a name, which it then does not find.
        const reason = name.includes('\uFFFD') ? 'its name is not valid UTF-8; rename it' : why(error);
        if (kind !== null) skipped.push({ file: name, reason });
      }
    }
  }
  found.sort((a, b) => compareNames(a.name, b.name));
  sortSkipped(skipped);
  return new FolderSource(path, found, skipped, await readDatasetJson(path));
}

async function readDatasetJson(path: string): Promise<string | null> {
  try {
    return await readFile(join(path, 'dataset.json'), 'utf8');
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

class FolderSource implements ImageSource {
  readonly kind = 'folder';
  readonly classes = null;
  readonly names: readonly string[];
  readonly bytes: number;

  readonly #files: readonly { name: string; bytes: number }[];

  constructor(
    readonly path: string,
    files: readonly { name: string; bytes: number }[],
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

  async decode(index: number, alpha = false): Promise<RawImage> {
    let bytes: Uint8Array;
    if (this.#files[index].bytes > MAX_FILE_BYTES)
      throw new UnusableImage(`larger than ${MAX_FILE_BYTES / 2 ** 20} MiB`);
    try {
      bytes = await readFile(join(this.path, this.names[index]));
    } catch (error) {
      throw new UnusableImage(why(error));
    }
    return decodeImage(bytes, alpha);
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
