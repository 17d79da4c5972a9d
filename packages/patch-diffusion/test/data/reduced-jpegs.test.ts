/** Large JPEGs are reduced while they are decoded: quicker, and the pixels of the data set stay what they were. */
import sharp from 'sharp';
import { expect, it } from 'vitest';
import { decodeImage } from '../../src/data/decode.js';
import { transformImage } from '../../src/data/transform.js';

/** Soft shapes with grain on them, as a camera sees them; nothing is black, white or of a full colour, where grain is cut off. */
async function photo(width: number, height: number) {
  const shapes = Uint8Array.from({ length: 12 * 9 * 3 }, (_, i) => 90 + ((i * i * 37 + i * 11) % 80));
  const pixels = await sharp(shapes, { raw: { width: 12, height: 9, channels: 3 } })
    .resize(width, height, { fit: 'fill', kernel: 'linear' })
    .raw()
    .toBuffer();
  for (let i = 0, random = 1; i < pixels.length; i++) {
    random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
    pixels[i] = Math.min(Math.max(pixels[i] + (random >>> 27) - 16, 0), 255);
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } });
}

const SIZE = { width: 64, height: 64 };
const asUsed = async (bytes: Uint8Array, size?: typeof SIZE) => {
  const decoded = await decodeImage(bytes, { size });
  return { decoded, made: transformImage(decoded, 'center-crop', SIZE) };
};

it.each([1, 6])('differ by a level or two at most, with orientation %i', async (orientation) => {
  const image = await photo(2400, 1801);
  const jpeg = await image.withMetadata({ orientation }).jpeg({ quality: 92 }).toBuffer();
  const [whole, reduced] = [await asUsed(jpeg), await asUsed(jpeg, SIZE)];
  const [width, height] = orientation === 1 ? [2400, 1801] : [1801, 2400];
  expect(whole.decoded).toMatchObject({ width, height });
  // 1801 px are 28 times 64.
  expect(reduced.decoded).toMatchObject({ width: Math.ceil(width / 7), height: Math.ceil(height / 7) });
  const differences = Array.from(whole.made.data, (value, i) => Math.abs(value - reduced.made.data[i]));
  // Roundings to 8 bits after each step, and two filters in place of one.
  expect(Math.max(...differences)).toBeLessThanOrEqual(2);
  expect(differences.reduce((sum, d) => sum + d, 0) / differences.length).toBeLessThan(0.5);
});

it('other formats, and JPEGs of less than 16 times the size, are decoded whole', async () => {
  const image = await photo(1200, 1000);
  for (const bytes of [await image.clone().jpeg().toBuffer(), await image.clone().webp().toBuffer()])
    expect((await asUsed(bytes, SIZE)).decoded).toMatchObject({ width: 1200, height: 1000 });
  const large = await (await photo(2400, 1801)).webp().toBuffer();
  expect((await asUsed(large, SIZE)).decoded).toMatchObject({ width: 2400, height: 1801 });
});
