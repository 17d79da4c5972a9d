/**
 * A minimal PNG encoder: 8-bit grey or RGB, no filter, stored (uncompressed) data.
 *
 * Datasets keep such PNGs because they decode several times faster than compressed ones. Written here rather than by
 * libpng so that a dataset is the same, byte for byte, with every version of every library.
 */
import { crc32, deflateSync } from 'node:zlib';
import type { RawImage } from './resize.js';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const GREY = 0;
const RGB = 2;

/** Encodes pixels [H, W, C] with C = 1 or 3. */
export function encodePng(image: RawImage): Buffer {
  const { data, width, height, channels } = image;
  if (channels !== 1 && channels !== 3) throw new RangeError(`internal: PNG of ${channels} channels`);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = 8; // bits per sample
  header[9] = channels === 1 ? GREY : RGB;
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

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const result = Buffer.alloc(body.length + 8);
  result.writeUInt32BE(data.length, 0);
  result.set(body, 4);
  result.writeUInt32BE(crc32(body), body.length + 4);
  return result;
}
