/**
 * What the bands of a TIFF mean, by its own tags: libvips takes any band beyond the colours for opacity, also near
 * infrared or a mask.
 */
import { open } from 'node:fs/promises';

/** Bands of one pixel. */
export interface TiffBands {
  readonly total: number;
  /** Bands that its photometric interpretation asks for: 1 grey or palette, 3, or 4 (CMYK). */
  readonly colours: number;
  /** Meaning of the other bands: 0 not said, 1 opacity multiplied into the colours, 2 opacity. */
  readonly extra: readonly number[];
}

/** Up to `length` bytes of a file from `offset`. */
type Read = (offset: number, length: number) => Promise<Buffer>;

const PHOTOMETRIC = 262;
const SAMPLES_PER_PIXEL = 277;
const EXTRA_SAMPLES = 338;

/** Colour bands by photometric interpretation. */
const COLOURS: Readonly<Record<number, number>> = { 0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3 };

const MAX_FIELDS = 4096;
const MAX_VALUES = 64;

/**
 * @param input path of a TIFF, or its bytes
 * @returns null where the tags cannot be read
 */
export async function tiffBands(input: string | Uint8Array): Promise<TiffBands | null> {
  if (typeof input !== 'string') {
    const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
    return readBands(async (offset, length) => bytes.subarray(offset, offset + length));
  }
  const handle = await open(input);
  try {
    return await readBands(async (offset, length) => {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead);
    });
  } finally {
    await handle.close();
  }
}

async function readBands(read: Read): Promise<TiffBands | null> {
  try {
    const tags = await readTags(read);
    const colours = COLOURS[tags.get(PHOTOMETRIC)?.[0] ?? -1];
    if (colours === undefined) return null;
    const [total] = tags.get(SAMPLES_PER_PIXEL) ?? [1];
    return { total, colours, extra: tags.get(EXTRA_SAMPLES) ?? [] };
  } catch (error) {
    // Cut off, or an offset beyond the end; the decoder has a better word for that.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The tags above, of the first image: lists of 16-bit numbers. */
async function readTags(read: Read): Promise<Map<number, number[]>> {
  const head = await read(0, 16);
  const isLittle = head.toString('latin1', 0, 2) === 'II';
  const u16 = (bytes: Buffer, at: number) => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at));
  const u32 = (bytes: Buffer, at: number) => (isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const u64 = (bytes: Buffer, at: number) =>
    Number(isLittle ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
  const isBig = u16(head, 2) === 43;
  const [offsetAt, offset, countBytes, fieldBytes] = isBig ? [8, u64, 8, 20] : [4, u32, 2, 12];
  const start = offset(head, offsetAt);
  const size = await read(start, countBytes);
  const count = Math.min(isBig ? u64(size, 0) : u16(size, 0), MAX_FIELDS);
  const fields = await read(start + countBytes, count * fieldBytes);
  const tags = new Map<number, number[]>();
  for (let at = 0; at + fieldBytes <= fields.length; at += fieldBytes) {
    const tag = u16(fields, at);
    if (tag !== PHOTOMETRIC && tag !== SAMPLES_PER_PIXEL && tag !== EXTRA_SAMPLES) continue;
    const length = Math.min(offset(fields, at + 4), MAX_VALUES);
    const valueAt = at + fieldBytes - (isBig ? 8 : 4);
    const isInline = length * 2 <= (isBig ? 8 : 4);
    const values = isInline ? fields.subarray(valueAt) : await read(offset(fields, valueAt), length * 2);
    tags.set(
      tag,
      Array.from({ length }, (_, i) => u16(values, i * 2)),
    );
  }
  return tags;
}
