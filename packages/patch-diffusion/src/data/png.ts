/**
 * PNGs as prepared datasets hold them: 8-bit grey, RGB or RGBA with stored (uncompressed) data.
 *
 * The encoder is here rather than libpng's so that a dataset is the same, byte for byte, with every version of every
 * library. The decoder takes only such files, ten times faster than the general way through libvips' threads; all
 * others are left to that.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import type { RawImage } from './resize.js';

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
    chunk('IDAT', deflateSync(rows, { level: 0 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
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

/** @returns pixels [H, W, C], or null for anything but an intact, uncompressed 8-bit grey, RGB or RGBA file */
export function decodeStoredPng(file: Uint8Array): RawImage | null {
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
      return header && fromStored(header, data.length === 1 ? data[0] : Buffer.concat(data));
    else return null; // palette, colour profile, transparency, …
    at = end;
  }
  return null;
}

function fromStored(header: Buffer, data: Buffer): RawImage | null {
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [bits, colour, compression, filter, interlace] = header.subarray(8);
  const channels = CHANNELS[colour] ?? 0;
  const isPlain = bits === 8 && channels > 0 && !compression && !filter && !interlace;
  const stride = width * channels;
  const length = height * (stride + 1);
  // Uncompressed data is longer than its content. This also bounds the memory that a hostile header can ask for.
  if (!isPlain || length === 0 || data.length <= length) return null;
  let rows: Buffer;
  try {
    rows = inflateSync(data, { maxOutputLength: length });
  } catch {
    return null;
  }
  if (rows.length !== length) return null;
  const pixels = new Uint8Array(height * stride);
  for (let y = 0; y < height; y++) {
    const start = y * (stride + 1);
    pixels.set(rows.subarray(start + 1, start + 1 + stride), y * stride);
    if (!unfilterRow(rows[start], pixels, y * stride, stride, channels)) return null;
  }
  return { data: pixels, width, height, channels };
}

/** Undoes the filter of one row in place (PNG specification, section 9). @returns false for an unknown filter */
function unfilterRow(
  filter: number,
  pixels: Uint8Array,
  start: number,
  stride: number,
  step: number,
): boolean {
  if (filter === 0) return true;
  if (filter > 4) return false;
  for (let i = 0; i < stride; i++) {
    const at = start + i;
    const left = i >= step ? pixels[at - step] : 0;
    const up = start > 0 ? pixels[at - stride] : 0;
    const upLeft = start > 0 && i >= step ? pixels[at - step - stride] : 0;
    const predicted =
      filter === 1 ? left : filter === 2 ? up : filter === 3 ? (left + up) >> 1 : paeth(left, up, upLeft);
    pixels[at] = pixels[at] + predicted;
  }
  return true;
}

function paeth(left: number, up: number, upLeft: number): number {
  const estimate = left + up - upLeft;
  const [a, b, c] = [Math.abs(estimate - left), Math.abs(estimate - up), Math.abs(estimate - upLeft)];
  return a <= b && a <= c ? left : b <= c ? up : upLeft;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const result = Buffer.alloc(body.length + 8);
  result.writeUInt32BE(data.length, 0);
  result.set(body, 4);
  result.writeUInt32BE(crc32(body), body.length + 4);
  return result;
}
