import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SOURCE_SHA256 } from '../../src/data/pixels-wasm.js';
import { cropImage, type RawImage, resizeLanczos } from '../../src/data/resize.js';

const image = (width: number, height: number, channels: number, seed = 1): RawImage => ({
  data: Uint8Array.from(
    { length: width * height * channels },
    (_, i) => (i * i * 31 + seed * i * 7 + seed) % 256,
  ),
  width,
  height,
  channels,
});

const side = fc.integer({ min: 1, max: 20 });
const anyImage = fc
  .record({ width: side, height: side, channels: fc.constantFrom(1, 3, 4), seed: fc.nat(1000) })
  .map(({ width, height, channels, seed }) => image(width, height, channels, seed));

describe('resizeLanczos', () => {
  it('was compiled of its source', async () => {
    const source = await readFile(new URL('../../wasm/pixels.as.ts', import.meta.url));
    expect(createHash('sha256').update(source).digest('hex')).toBe(SOURCE_SHA256);
  });

  it('resizes rows alike, also where they are copied in several parts', () => {
    const source = image(3000, 100, 3);
    const whole = resizeLanczos(source, 17, 100);
    for (const top of [0, 41, 99]) {
      const box = { left: 0, top, width: 3000, height: 1 };
      const { data } = resizeLanczos(source, 17, 1, box);
      expect(whole.data.subarray(top * 51, (top + 1) * 51)).toEqual(data);
    }
  });

  it('equals Pillow 12.3', () => {
    // np: a = ((i*i*31 + 7*i + 1) % 256).reshape(5, 7); Image.fromarray(a).resize((3, 4), LANCZOS)
    const { data } = resizeLanczos(image(7, 5, 1), 3, 4);
    expect([...data]).toEqual(PILLOW_7x5_TO_3x4);
    const larger = resizeLanczos(image(7, 5, 1), 9, 6).data;
    expect([...larger.subarray(0, 18)]).toEqual(PILLOW_7x5_TO_9x6);
  });

  it('leaves images of the wanted size, and flat images, as they are', () => {
    fc.assert(
      fc.property(anyImage, side, side, fc.nat(255), (source, width, height, value) => {
        expect(resizeLanczos(source, source.width, source.height).data).toEqual(source.data);
        const flat = { ...source, data: new Uint8Array(source.data.length).fill(value) };
        const resized = resizeLanczos(flat, width, height);
        expect(resized.data.length).toBe(width * height * source.channels);
        expect(resized.data.every((v) => v === value)).toBe(true);
      }),
    );
  });

  it('treats channels alike and independently', () => {
    fc.assert(
      fc.property(anyImage, side, side, (source, width, height) => {
        const { channels } = source;
        const together = resizeLanczos(source, width, height);
        for (let c = 0; c < channels; c++) {
          const data = source.data.filter((_, i) => i % channels === c);
          const alone = resizeLanczos({ ...source, data, channels: 1 }, width, height);
          expect(together.data.filter((_, i) => i % channels === c)).toEqual(alone.data);
        }
      }),
    );
  });

  it('resizes a box like the cropped image', () => {
    fc.assert(
      fc.property(anyImage, fc.nat(), fc.nat(), side, side, (source, a, b, width, height) => {
        const left = a % source.width;
        const top = b % source.height;
        const box = { left, top, width: source.width - left, height: source.height - top };
        const direct = resizeLanczos(source, width, height, box);
        expect(direct).toEqual(resizeLanczos(cropImage(source, box), width, height));
      }),
    );
  });

  it('refuses boxes outside of the image and empty results', () => {
    expect(() => resizeLanczos(image(4, 4, 1), 0, 2)).toThrow(RangeError);
    expect(() => cropImage(image(4, 4, 1), { left: 2, top: 0, width: 3, height: 1 })).toThrow(/not inside/);
  });
});

const PILLOW_7x5_TO_3x4 = [64, 72, 99, 106, 137, 218, 133, 123, 94, 178, 141, 187];
const PILLOW_7x5_TO_9x6 = [0, 2, 94, 140, 43, 2, 2, 73, 137, 17, 159, 151, 26, 83, 174, 189, 171, 183];
