/**
 * PNGs as datasets hold them: 8-bit grey, RGB or RGBA, small, with nothing beside the pixels.
 *
 * The encoder writes stored (uncompressed) data. It is here rather than libpng's so that a dataset is the same, byte for
 * byte, with every version of every library. The decoder takes only such files, stored or compressed, several times faster
 * than the general way through libvips' threads; all others are left to that.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import type { RawImage } from './resize.js';
import { wasm, wasmMemory } from './wasm.js';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const GREY = 0;
const RGB = 2;
const RGBA = 6;
const CHANNELS: Readonly<Record<number, number>> = { [GREY]: 1, [RGB]: 3, [RGBA]: 4 };

/** Encodes pixels [H, W, C] with C = 1, 3 or 4. */
export function encodePng(image: RawImage): Buffer {
  const { data, width, height, channels } = image;
  const colour = [GREY, RGB, RGBA].find((type) => CHANNELS[type] === channels);
  if (colour === undefined) throw new RangeError(`internal: PNG of ${channels} channels`);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits per sample
  header[9] = colour;
  const stride = width * channels;
  const rows = Buffer.alloc(height * (stride + 1)); // each row begins with its filter, 0
  for (let y = 0; y < height; y++)
    rows.set(data.subarray(y * stride, (y + 1) * stride), y * (stride + 1) + 1);
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('IDAT', store(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** The largest block that zlib makes at once where it only stores. */
const MAX_BLOCK_BYTES = 65_531;

/** What `deflateSync(rows, { level: 0 })` gives, without setting up a compressor for each small image. */
function store(rows: Buffer): Buffer {
  const { length } = rows;
  if (length > MAX_BLOCK_BYTES) return deflateSync(rows, { level: 0 });
  const result = Buffer.allocUnsafe(length + 11);
  result.writeUInt16BE(0x7801, 0); // zlib's header
  result[2] = 1; // the last block, stored
  result.writeUInt16LE(length, 3);
  result.writeUInt16LE(length ^ 0xffff, 5);
  rows.copy(result, 7);
  result.writeUInt32BE(adler32(rows), length + 7);
  return result;
}

/** Checksum of zlib (RFC 1950). */
function adler32(bytes: Uint8Array): number {
  let [a, b] = [1, 0];
  for (let at = 0; at < bytes.length; ) {
    // So many additions fit into 31 bits.
    for (const end = Math.min(at + 3800, bytes.length); at < end; at++) {
      a += bytes[at];
      b += a;
    }
    a %= 65_521;
    b %= 65_521;
  }
  return b * 65_536 + a;
}

/** Adds text by keyword to a PNG, as international text chunks (UTF-8), which image programs show as its metadata. */
export function withPngText(png: Buffer, text: Readonly<Record<string, string>>): Buffer {
  const headerEnd = SIGNATURE.length + 25; // length, type, 13 bytes and checksum of IHDR, which is always the first
  const chunks = Object.entries(text).map(([keyword, value]) =>
    // Not compressed, no language, no translated keyword.
    chunk('iTXt', Buffer.from(`${keyword}\0\0\0\0\0${value}`)),
  );
  return Buffer.concat([png.subarray(0, headerEnd), ...chunks, png.subarray(headerEnd)]);
}

/** Larger images that are compressed or filtered are quicker by libvips. */
const MAX_PACKED_BYTES = 2 ** 17;

/**
 * @returns pixels [H, W, C], or null for anything but an intact 8-bit grey, RGB or RGBA file without other chunks, stored or
 *   small
 */
export function decodePlainPng(file: Uint8Array): RawImage | null {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < 57 || SIGNATURE.compare(bytes, 0, 8) !== 0) return null;
  let header: Buffer | null = null;
  const data: Buffer[] = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const end = at + 12 + bytes.readUInt32BE(at);
    if (end > bytes.length || crc32(bytes.subarray(at + 4, end - 4)) !== bytes.readUInt32BE(end - 4))
      return null;
    const type = bytes.toString('latin1', at + 4, at + 8);
    const body = bytes.subarray(at + 8, end - 4);
    if (type === 'IHDR' && header === null && body.length === 13) header = body;
    else if (type === 'IDAT') data.push(body);
    else if (type === 'IEND')
      return header && fromChunks(header, data.length === 1 ? data[0] : Buffer.concat(data));
    else return null; // palette, colour profile, transparency, …
    at = end;
  }
  return null;
}

function fromChunks(header: Buffer, data: Buffer): RawImage | null {
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [bits, colour, compression, filter, interlace] = header.subarray(8);
  const channels = CHANNELS[colour] ?? 0;
  const isPlain = bits === 8 && channels > 0 && !compression && !filter && !interlace;
  const stride = width * channels;
  const length = height * (stride + 1);
  // Stored data is longer than its content: a header can ask for no more memory than the file takes.
  const isStored = data.length > length;
  if (!isPlain || length === 0 || !(isStored || length <= MAX_PACKED_BYTES)) return null;
  let rows: Buffer;
  try {
    rows = inflateSync(data, { maxOutputLength: length });
  } catch {
    return null;
  }
  if (rows.length !== length) return null;
  const pixels = unfiltered(rows, height, stride, channels);
  return pixels && { data: pixels, width, height, channels };
}

/** @returns the rows without their filters; null where one is unknown, or a large image has some */
function unfiltered(rows: Uint8Array, height: number, stride: number, channels: number): Uint8Array | null {
  const length = height * stride;
  const isPlain = Array.from({ length: height }, (_, y) => rows[y * (stride + 1)]).every((filter) => !filter);
  if (isPlain) {
    const pixels = new Uint8Array(length);
    for (let y = 0; y < height; y++) {
      const start = y * (stride + 1) + 1;
      pixels.set(rows.subarray(start, start + stride), y * stride);
    }
    return pixels;
  }
  if (length > MAX_PACKED_BYTES) return null;
  const memory = wasmMemory(length, rows.length, stride);
  const [target, source, zeros] = [memory.take(length), memory.put(rows), memory.take(stride)];
  if (!wasm().unfilter(source, target, height, stride, channels, zeros)) return null;
  return memory.copy(target, length);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const result = Buffer.alloc(body.length + 8);
  result.writeUInt32BE(data.length, 0);
  result.set(body, 4);
  result.writeUInt32BE(crc32(body), body.length + 4);
  return result;
}
