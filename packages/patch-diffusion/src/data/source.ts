/**
 * Where images come from: a folder, a zip file, or an MNIST-style idx file, behind one small interface.
 */
import { stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { UserError } from '../common/errors.js';
import type { ImageSource } from './image-source.js';
import { openFolder } from './source-folder.js';
import { isIdxName, openIdx } from './source-idx.js';
import { openZip } from './source-zip.js';

export interface SourceOptions {
  /** A file or folder inside a folder source that is left out, such as an earlier result. */
  readonly exclude?: string;
}

/**
 * Opens a folder, a `.zip`, or an `…-idx3-ubyte[.gz]` file (or a folder that holds such a file instead of images).
 *
 * @throws UserError if there is nothing at `path`, it is of another kind, or it holds no images
 */
export async function openSource(path: string, options: SourceOptions = {}): Promise<ImageSource> {
  const source = await openAnySource(path, options);
  if (source.names.length > 0) return source;
  await source.close();
  const first = source.skipped[0];
  const hint = first
    ? ` (${source.skipped.length} files were skipped, such as ${first.file}: ${first.reason})`
    : '';
  throw new UserError(
    'DATA_EMPTY',
    `No images in ${path}${hint}; give a folder or zip with jpg, png, webp, gif, avif or tiff files`,
  );
}

async function openAnySource(path: string, { exclude }: SourceOptions): Promise<ImageSource> {
  let info: Awaited<ReturnType<typeof stat>>;
  try {
    info = await stat(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new UserError('DATA_NO_PERMISSION', `No permission to read ${path}; check its access rights`, {
        cause: error,
      });
    }
    throw new UserError('DATA_NOT_FOUND', `No such file or folder: ${path}; check the path`, {
      cause: error,
    });
  }
  if (info.isDirectory()) {
    const folder = await openFolder(path, exclude);
    if (folder.names.length > 0) return folder;
    for (const name of ['train-images-idx3-ubyte.gz', 'train-images-idx3-ubyte']) {
      const idx = join(path, name);
      if (
        await stat(idx).then(
          (found) => found.isFile(),
          () => false,
        )
      )
        return openIdx(idx);
    }
    return folder;
  }
  if (extname(path).toLowerCase() === '.zip') return openZip(path);
  if (isIdxName(path)) return openIdx(path);
  throw new UserError(
    'DATA_KIND',
    `${basename(path)} is neither a folder nor a .zip nor an idx3-ubyte file; give the folder that holds the images`,
  );
}
