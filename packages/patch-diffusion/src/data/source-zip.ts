/**
 * A zip file of images, read entry by entry: the central directory is read once, then each image is one positional
 * read (and an inflation where it is compressed), so that any order is quick and nothing is unpacked to disk.
 */
import { openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { constants, crc32, inflateRaw } from 'node:zlib';
import yauzl, { type Entry } from 'yauzl';
import { UserError } from '../common/errors.js';
import { Budget } from './concurrency.js';
import {
  type DecodeOptions,
  decodeImage,
  type ImageHeader,
  MAX_FILE_BYTES,
  readImageHeader,
  UnusableImage,
} from './decode.js';
import type { ImageSource, ZipPlace } from './image-source.js';
import { MAX_JSON_BYTES } from './labels.js';
import { classifyContent, classifyName, compareNames, HEAD_BYTES } from './names.js';
import type { RawImage } from './resize.js';
import type { SkippedFile } from './types.js';

const inflate = promisify(inflateRaw);

const LOCAL_HEADER_BYTES = 30;
/** The local header may have more extra fields than the central one; this much more is read at once. */
const SLACK_BYTES = 64;

const BLOCK_BYTES = 2 ** 20;

const STORED = 0;
const DEFLATED = 8;

function placeOf(entry: Entry): ZipPlace {
  const { compressedSize, compressionMethod, crc32, fileNameLength } = entry;
  const { relativeOffsetOfLocalHeader, uncompressedSize } = entry;
  return {
    ...{ compressedSize, compressionMethod, crc32, fileNameLength, relativeOffsetOfLocalHeader },
    ...{ uncompressedSize, isEncrypted: entry.isEncrypted() },
  };
}

/**
 * Opens a zip whose places are known, for a thread that may wait for the disk.
 * @returns reads and decodes an entry
 */
export function openZipPlaces(path: string): (place: ZipPlace, options: DecodeOptions) => Promise<RawImage> {
  const file = openSync(path, 'r');
  const readNow: ReadAt = (offset, length) => {
    const buffer = Buffer.allocUnsafe(length);
    return buffer.subarray(0, readSync(file, buffer, 0, length, offset));
  };
  return async (place, options) => decodeImage(await readEntry(readNow, place), options);
}

/** @throws UserError if the file cannot be read or is not a zip file */
export async function openZip(path: string): Promise<ImageSource> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (error) {
    throw new UserError('DATA_NO_PERMISSION', `Cannot open ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    const { size, mtimeMs, ctimeMs } = await handle.stat();
    const entries = await readDirectory(handle, size);
    const top = topFolder(entries);
    const images: Entry[] = [];
    const skipped: SkippedFile[] = [];
    let datasetJson: string | null = null;
    for (const entry of entries) {
      if (entry.fileName.startsWith(top)) entry.fileName = entry.fileName.slice(top.length);
      const name = entry.fileName;
      if (name === 'dataset.json')
        datasetJson = (await readEntry(readerOf(handle), placeOf(entry), MAX_JSON_BYTES)).toString('utf8');
      if (name.endsWith('/')) continue;
      let kind = classifyName(name);
      if (kind === 'unsure') kind = classifyContent(name, await readHead(readerOf(handle), placeOf(entry)));
      if (kind === 'image') images.push(entry);
      else if (kind !== null) skipped.push({ file: name, reason: kind.reason });
    }
    images.sort((a, b) => compareNames(a.fileName, b.fileName));
    const stamp = JSON.stringify([size, mtimeMs, ctimeMs]);
    return new ZipSource(path, handle, images, skipped, size, datasetJson, stamp);
  } catch (error) {
    await handle.close();
    const reason = error instanceof Error ? error.message : String(error);
    throw new UserError(
      'DATA_ZIP',
      `${path} is not a usable zip file (${reason}); make or download it again`,
      {
        cause: error,
      },
    );
  }
}

/**
 * `photos/` where everything in an archive lies in a folder of that name, as it comes of zipping the folder itself; else
 * nothing. What macOS adds does not count.
 */
function topFolder(entries: readonly Entry[]): string {
  const names = entries.map((entry) => entry.fileName).filter((name) => !/^(__MACOSX\/|\.)/.test(name));
  const top = /^[^/]+\//.exec(names[0] ?? '')?.[0];
  return top !== undefined && names.every((name) => name.startsWith(top)) ? top : '';
}

function readDirectory(handle: FileHandle, size: number): Promise<Entry[]> {
  // The event interface: its async iterator takes three times as long for large archives.
  return new Promise((resolve, reject) => {
    yauzl.fromRandomAccessReader(new BlockReader(handle), size, { lazyEntries: false }, (error, zip) => {
      if (error) return reject(error);
      const entries: Entry[] = [];
      zip.on('entry', (entry: Entry) => entries.push(entry));
      zip.on('error', reject);
      zip.on('end', () => resolve(entries));
    });
  });
}

/**
 * Reads a file in large blocks. yauzl asks for two small pieces per entry; as system calls of their own they would
 * take half a second for 5,000 entries.
 */
class BlockReader extends yauzl.RandomAccessReader {
  #block: Buffer = Buffer.alloc(0);
  #blockStart = 0;

  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    super();
    this.#handle = handle;
  }

  override read(
    target: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    const copy = () => {
      const start = position - this.#blockStart;
      if (start < 0 || start + length > this.#block.length) return false;
      this.#block.copy(target, offset, start, start + length);
      return true;
    };
    if (copy()) {
      // Not at once: yauzl would go one level deeper into the stack with each entry.
      process.nextTick(callback, null);
      return;
    }
    readAt(this.#handle, position, Math.max(length, BLOCK_BYTES)).then(
      (block) => {
        this.#block = block;
        this.#blockStart = position;
        callback(copy() ? null : new Error('unexpected end of file'));
      },
      (error: Error) => callback(error),
    );
  }
}

class ZipSource implements ImageSource {
  readonly kind = 'zip';
  readonly classes = null;
  readonly names: readonly string[];

  readonly #handle: FileHandle;
  readonly #read: ReadAt;
  readonly #stamp: string;
  readonly #entries: readonly Entry[];

  constructor(
    readonly path: string,
    handle: FileHandle,
    entries: readonly Entry[],
    readonly skipped: readonly SkippedFile[],
    readonly bytes: number,
    readonly datasetJson: string | null,
    stamp: string,
  ) {
    this.#stamp = stamp;
    this.#handle = handle;
    this.#read = readerOf(handle);
    this.#entries = entries;
    this.names = entries.map((entry) => entry.fileName);
  }

  async header(index: number): Promise<ImageHeader> {
    const bytes = await readEntry(this.#read, this.place(index));
    if (bytes.length === 0) throw new UnusableImage('empty file');
    return readImageHeader(bytes);
  }

  async decode(index: number, options?: DecodeOptions): Promise<RawImage> {
    return decodeImage(await readEntry(this.#read, this.place(index)), options);
  }

  place(index: number): ZipPlace {
    return placeOf(this.#entries[index]);
  }

  stamp(): string {
    return this.#stamp;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** What entries that are read at the same time may take together. */
const entryBudget = new Budget(MAX_FILE_BYTES);

/** The uncompressed bytes of an entry, checked against its CRC. @throws UnusableImage */
async function readEntry(read: ReadAt, entry: ZipPlace, maxBytes = MAX_FILE_BYTES): Promise<Buffer> {
  const bytes = Math.max(entry.compressedSize, entry.uncompressedSize);
  if (bytes > maxBytes) throw new UnusableImage(`larger than ${maxBytes / 2 ** 20} MiB`);
  return entryBudget.use(bytes, () => unpackEntry(read, entry));
}

async function unpackEntry(read: ReadAt, entry: ZipPlace): Promise<Buffer> {
  if (entry.isEncrypted) throw new UnusableImage('encrypted in the zip file');
  const { compressionMethod, uncompressedSize } = entry;
  if (compressionMethod !== STORED && compressionMethod !== DEFLATED) {
    throw new UnusableImage(`compressed by method ${compressionMethod}, which is not supported`);
  }
  const packed = await readPacked(read, entry);
  let bytes = packed;
  if (compressionMethod === DEFLATED) {
    try {
      bytes = await inflate(packed, { maxOutputLength: Math.max(1, uncompressedSize) });
    } catch (error) {
      throw new UnusableImage(`damaged in the zip file (${(error as Error).message})`);
    }
  }
  if (bytes.length !== uncompressedSize || crc32(bytes) !== entry.crc32) {
    throw new UnusableImage('damaged in the zip file (wrong checksum)');
  }
  return bytes;
}

/** The first bytes of an entry; none where they cannot be read. */
async function readHead(read: ReadAt, entry: ZipPlace): Promise<Buffer> {
  const { compressionMethod, compressedSize } = entry;
  try {
    if (entry.isEncrypted) return Buffer.alloc(0);
    const packed = await readPacked(read, entry, Math.min(compressedSize, 4096));
    if (compressionMethod !== DEFLATED) return packed.subarray(0, HEAD_BYTES);
    return await inflate(packed, { finishFlush: constants.Z_SYNC_FLUSH });
  } catch {
    return Buffer.alloc(0);
  }
}

/** The stored bytes of an entry, or the first of them. */
async function readPacked(read: ReadAt, entry: ZipPlace, length = entry.compressedSize): Promise<Buffer> {
  const { relativeOffsetOfLocalHeader: offset } = entry;
  const expected = LOCAL_HEADER_BYTES + entry.fileNameLength + SLACK_BYTES + length;
  let buffer = await read(offset, expected);
  if (buffer.length < LOCAL_HEADER_BYTES || buffer.readUInt32LE(0) !== 0x04034b50) {
    throw new UnusableImage('damaged in the zip file (no entry header)');
  }
  const start = LOCAL_HEADER_BYTES + buffer.readUInt16LE(26) + buffer.readUInt16LE(28);
  const end = start + length;
  if (end > buffer.length) buffer = await read(offset, end);
  if (end > buffer.length) throw new UnusableImage('cut off at the end of the zip file');
  return buffer.subarray(start, end);
}

/** Up to `length` bytes of a file from `offset`; fewer at its end. */
type ReadAt = (offset: number, length: number) => Buffer | Promise<Buffer>;

const readerOf =
  (handle: FileHandle): ReadAt =>
  (offset, length) =>
    readAt(handle, offset, length);

async function readAt(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  // A failing disk is no property of an image: it must not lead to another image in its place.
  const { bytesRead } = await handle.read(buffer, 0, length, offset);
  return buffer.subarray(0, bytesRead);
}
