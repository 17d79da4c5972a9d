/**
 * MNIST's idx format (also Fashion-MNIST, KMNIST, EMNIST): a big-endian header and raw grey pixels, mostly gzipped,
 * with class labels in a sibling file. 28×28 images get a black margin of 2 pixels, as in the reference, because 32
 * can be halved five times.
 */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { constants, gunzip } from 'node:zlib';
import { UserError } from '../common/errors.js';
import type { ImageHeader } from './decode.js';
import type { ImageSource } from './image-source.js';
import type { RawImage } from './resize.js';

const IMAGES_MAGIC = 0x00000803;
const LABELS_MAGIC = 0x00000801;
/** More is no set of small grey pictures: the largest known ones have 640 MB. */
const MAX_BYTES = 2 ** 30;
const HEADER_BYTES = 16;

const inflate = promisify(gunzip);

export function isIdxName(path: string): boolean {
  return /idx3-ubyte(\.gz)?$/i.test(path);
}

/** @throws UserError if the file is damaged or its labels do not fit */
export async function openIdx(path: string): Promise<ImageSource> {
  const file = await readMaybeGzipped(path, (header) => {
    if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== IMAGES_MAGIC) {
      throw new UserError('DATA_IDX', `${path} is not an idx3-ubyte image file; download it again`);
    }
    return HEADER_BYTES + header.readUInt32BE(4) * header.readUInt32BE(8) * header.readUInt32BE(12);
  });
  const [count, height, width] = [file.readUInt32BE(4), file.readUInt32BE(8), file.readUInt32BE(12)];
  if (file.length !== HEADER_BYTES + count * height * width || height * width === 0) {
    throw new UserError(
      'DATA_IDX',
      `${path} should hold ${count} images of ${width} × ${height}, but has ${file.length} bytes; download it again`,
    );
  }
  return new IdxSource(
    path,
    file.subarray(HEADER_BYTES),
    count,
    height,
    width,
    await readLabels(path, count),
  );
}

async function readLabels(imagesPath: string, count: number): Promise<Uint8Array | null> {
  const name = basename(imagesPath).replace(/images([-.])idx3/i, 'labels$1idx1');
  if (name === basename(imagesPath)) return null;
  const path = join(dirname(imagesPath), name);
  let file: Buffer;
  try {
    file = await readMaybeGzipped(path, () => 8 + count);
  } catch (error) {
    if (((error as UserError).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return null;
    throw error;
  }
  if (file.length !== 8 + count || file.readUInt32BE(0) !== LABELS_MAGIC) {
    throw new UserError(
      'DATA_IDX',
      `${path} does not hold ${count} labels; download it again, or move it away`,
    );
  }
  return file.subarray(8);
}

/**
 * The contents of a file, inflated where it ends in `.gz`: not before its header has said how much that will be.
 * @param lengthOf the length that a file of this header has
 */
async function readMaybeGzipped(path: string, lengthOf: (header: Buffer) => number): Promise<Buffer> {
  const damaged = (error: unknown) =>
    new UserError('DATA_IDX', `Cannot read ${path}: ${(error as Error).message}; download it again`, {
      cause: error,
    });
  const isGzipped = path.toLowerCase().endsWith('.gz');
  let bytes: Buffer;
  let header: Buffer;
  try {
    checkLength((await stat(path)).size, path);
    bytes = await readFile(path);
    const start = bytes.subarray(0, 1024);
    header = isGzipped ? await inflate(start, { finishFlush: constants.Z_SYNC_FLUSH }) : start;
  } catch (error) {
    throw error instanceof UserError ? error : damaged(error);
  }
  const length = lengthOf(header.subarray(0, HEADER_BYTES));
  checkLength(length, path);
  if (!isGzipped) return bytes;
  try {
    return await inflate(bytes, { maxOutputLength: length + 1 });
  } catch (error) {
    throw damaged(error);
  }
}

function checkLength(bytes: number, path: string): void {
  if (bytes <= MAX_BYTES) return;
  throw new UserError(
    'DATA_IDX',
    `${path} would take ${(bytes / 2 ** 30).toFixed(1)} GiB of memory, more than the ${MAX_BYTES / 2 ** 30} GiB that idx files may; convert the images to PNG files in a zip`,
  );
}

class IdxSource implements ImageSource {
  readonly kind = 'idx';
  readonly skipped = [];
  readonly datasetJson = null;
  readonly names: readonly string[];
  readonly bytes: number;
  readonly #margin: number;

  readonly #pixels: Uint8Array;
  readonly #height: number;
  readonly #width: number;

  constructor(
    readonly path: string,
    pixels: Uint8Array,
    count: number,
    height: number,
    width: number,
    readonly classes: Uint8Array | null,
  ) {
    this.#pixels = pixels;
    this.#height = height;
    this.#width = width;
    this.names = Array.from({ length: count }, (_, i) => String(i).padStart(8, '0'));
    this.bytes = pixels.length;
    this.#margin = height === 28 && width === 28 ? 2 : 0;
  }

  async header(_index: number): Promise<ImageHeader> {
    const [height, width, margin] = [this.#height, this.#width, this.#margin];
    return { height: height + 2 * margin, width: width + 2 * margin, isGrey: true };
  }

  async decode(index: number): Promise<RawImage> {
    const [height, width, margin] = [this.#height, this.#width, this.#margin];
    const outWidth = width + 2 * margin;
    const outHeight = height + 2 * margin;
    const data = new Uint8Array(outWidth * outHeight);
    for (let row = 0; row < height; row++) {
      const start = (index * height + row) * width;
      data.set(this.#pixels.subarray(start, start + width), (row + margin) * outWidth + margin);
    }
    return { data, width: outWidth, height: outHeight, channels: 1 };
  }

  async close(): Promise<void> {}
}
