import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { decodePlainPng, encodePng, withPngText } from '../../src/data/png.js';

const images = fc
  .record({
    width: fc.integer({ min: 1, max: 40 }),
    height: fc.integer({ min: 1, max: 40 }),
    channels: fc.constantFrom(1, 3),
  })
  .chain(({ width, height, channels }) => {
    const length = width * height * channels;
    const data = fc.uint8Array({ minLength: length, maxLength: length });
    return fc.record({
      data,
      width: fc.constant(width),
      height: fc.constant(height),
      channels: fc.constant(channels),
    });
  });

describe('PNGs of prepared datasets', () => {
  it('decode to what was encoded, here and in libvips', async () => {
    await fc.assert(
      fc.asyncProperty(images, async (image) => {
        const png = encodePng(image);
        expect(decodePlainPng(png)).toEqual(image);
        const { data, info } = await sharp(png)
          .toColourspace(image.channels === 1 ? 'b-w' : 'srgb')
          .raw()
          .toBuffer({ resolveWithObject: true });
        expect([info.width, info.height, info.channels]).toEqual([image.width, image.height, image.channels]);
        expect(new Uint8Array(data)).toEqual(image.data);
      }),
      { numRuns: 30 },
    );
  });

  it('decode with any row filter, as libpng chooses them', async () => {
    await fc.assert(
      fc.asyncProperty(
        images,
        fc.boolean(),
        fc.constantFrom(0, 6),
        async (image, adaptiveFiltering, compressionLevel) => {
          const { data, width, height, channels } = image;
          const png = await sharp(data, { raw: { width, height, channels: channels as 1 | 3 } })
            .toColourspace(channels === 1 ? 'b-w' : 'srgb')
            .png({ compressionLevel, adaptiveFiltering })
            .toBuffer();
          const decoded = decodePlainPng(png);
          if (decoded !== null) expect(decoded).toEqual(image);
          else expect(png.includes('pHYs') || png.includes('iCCP')).toBe(true);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('have the bytes that zlib makes without compression', () => {
    for (const width of [1, 100, 3819, 65_530, 65_531, 70_000]) {
      const data = Uint8Array.from({ length: width }, (_, i) => 255 - (i % 7));
      const row = Buffer.concat([Buffer.of(0), data]);
      const png = encodePng({ data, width, height: 1, channels: 1 });
      expect(png.includes(deflateSync(row, { level: 0 }))).toBe(true);
    }
  });

  it('are left alone when damaged, large and compressed, or of another kind', async () => {
    const image = { data: new Uint8Array(300).fill(7), width: 10, height: 10, channels: 3 };
    const png = encodePng(image);
    for (let cut = 0; cut < png.length; cut++) expect(decodePlainPng(png.subarray(0, cut))).toBeNull();
    for (let at = 8; at < png.length; at++) {
      const damaged = Buffer.from(png);
      damaged[at] ^= 1;
      expect(decodePlainPng(damaged)).toBeNull();
    }
    const make = () => sharp(image.data, { raw: { width: 10, height: 10, channels: 3 } });
    const large = sharp({ create: { width: 300, height: 300, channels: 3, background: 'red' } });
    expect(decodePlainPng(await large.png().toBuffer())).toBeNull();
    expect(decodePlainPng(await make().jpeg().toBuffer())).toBeNull();
    expect(decodePlainPng(await make().png({ compressionLevel: 0, palette: true }).toBuffer())).toBeNull();
  });
});

it('text is added that image programs read, and the pixels stay', async () => {
  const image = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), width: 2, height: 1, channels: 3 };
  const png = withPngText(encodePng(image), { Class: '3', 'Class name': 'Kätzchen 🐈' });
  const { data } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  expect([...data]).toEqual([...image.data]);
  expect((await sharp(png).metadata()).comments).toEqual([
    { keyword: 'Class', text: '3' },
    { keyword: 'Class name', text: 'Kätzchen 🐈' },
  ]);
});
