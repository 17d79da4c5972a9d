/**
 * A zip file of images, read entry by entry: the central directory is read once, then each image is one positional
 * read (and an inflation where it is compressed), so that any order is quick and nothing is unpacked to disk.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import yauzl, { type Entry } from 'yauzl';
import { UserError } from '../common/errors.js';
import { decodeImage, type ImageHeader, MAX_FILE_BYTES, readImageHeader, UnusableImage } from './decode.js';
import type { ImageSource } from './image-source.js';
import { classifyName, compareNames } from './names.js';
import type { RawImage } from './resize.js';
import type { SkippedFile } from './types.js';

const inflate = promisify(inflateRaw);

const LOCAL_HEADER_BYTES = 30;
/** The local header may have more extra fields than the central one; this much more is read at once. */
const SLACK_BYTES = 64;

const BLOCK_BYTES = 2 ** 20;

const STORED = 0;
const DEFLATED = 8;

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
    const { size } = await handle.stat();
    const entries = await readDirectory(handle, size);
    const top = topFolder(entries);
    const images: Entry[] = [];
    const skipped: SkippedFile[] = [];
    let datasetJson: string | null = null;
    for (const entry of entries) {
      if (entry.fileName.startsWith(top)) entry.fileName = entry.fileName.slice(top.length);
      const name = entry.fileName;
      if (name === 'dataset.json') datasetJson = (await readEntry(handle, entry)).toString('utf8');
      if (name.endsWith('/')) continue;
      const kind = classifyName(name);
      if (kind === 'image') images.push(entry);
      else if (kind !== null) skipped.push({ file: name, reason: kind.reason });
    }
    images.sort((a, b) => compareNames(a.fileName, b.fileName));
    return new ZipSource(path, handle, images, skipped, size, datasetJson);
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
 * `photos/` where an archive is one dataset in a folder of that name, as it comes of zipping the folder itself; else
 * nothing. What macOS adds does not count.
 */
function topFolder(entries: readonly Entry[]): string {
  const names = entries.map((entry) => entry.fileName).filter((name) => !name.startsWith('__MACOSX/'));
  const top = /^[^/]+\//.exec(names[0] ?? '')?.[0];
  if (top === undefined || !names.includes(`${top}dataset.json`)) return '';
  return names.every((name) => name.startsWith(top)) ? top : '';
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
  readonly #entries: readonly Entry[];

  constructor(
    readonly path: string,
    handle: FileHandle,
    entries: readonly Entry[],
    readonly skipped: readonly SkippedFile[],
    readonly bytes: number,
    readonly datasetJson: string | null,
  ) {
    this.#handle = handle;
    this.#entries = entries;
    this.names = entries.map((entry) => entry.fileName);
  }

  async header(index: number): Promise<ImageHeader> {
    const bytes = await readEntry(this.#handle, this.#entries[index]);
    if (bytes.length === 0) throw new UnusableImage('empty file');
    return readImageHeader(bytes);
  }

  async decode(index: number, alpha = false): Promise<RawImage> {
    return decodeImage(await readEntry(this.#handle, this.#entries[index]), alpha);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** The uncompressed bytes of an entry, checked against its CRC. @throws UnusableImage */
async function readEntry(handle: FileHandle, entry: Entry): Promise<Buffer> {
  if (entry.isEncrypted()) throw new UnusableImage('encrypted in the zip file');
  const { compressionMethod, compressedSize, uncompressedSize } = entry;
  if (compressionMethod !== STORED && compressionMethod !== DEFLATED) {
    throw new UnusableImage(`compressed by method ${compressionMethod}, which is not supported`);
  }
  if (Math.max(compressedSize, uncompressedSize) > MAX_FILE_BYTES) {
    throw new UnusableImage(`larger than ${MAX_FILE_BYTES / 2 ** 20} MiB`);
  }
  const packed = await readPacked(handle, entry);
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

async function readPacked(handle: FileHandle, entry: Entry): Promise<Buffer> {
  const { relativeOffsetOfLocalHeader: offset, compressedSize } = entry;
  const expected = LOCAL_HEADER_BYTES + entry.fileNameLength + SLACK_BYTES + compressedSize;
  let buffer = await readAt(handle, offset, expected);
  if (buffer.length < LOCAL_HEADER_BYTES || buffer.readUInt32LE(0) !== 0x04034b50) {
    throw new UnusableImage('damaged in the zip file (no entry header)');
  }
  const start = LOCAL_HEADER_BYTES + buffer.readUInt16LE(26) + buffer.readUInt16LE(28);
  const end = start + compressedSize;
  if (end > buffer.length) buffer = await readAt(handle, offset, end);
  if (end > buffer.length) throw new UnusableImage('cut off at the end of the zip file');
  return buffer.subarray(start, end);
}

/** Up to `length` bytes; fewer at the end of the file. */
async function readAt(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  // A failing disk is no property of an image: it must not lead to another image in its place.
  const { bytesRead } = await handle.read(buffer, 0, length, offset);
  return buffer.subarray(0, bytesRead);
}
