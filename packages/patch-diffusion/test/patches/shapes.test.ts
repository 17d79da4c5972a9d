/** Patches and coordinates for images of any shape. */
import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { drawOffsets, extractPatches, patchPositions } from '../../src/patches/crops.js';
import { customPatchSizes, defaultPatchSizes, meanMultiplier } from '../../src/patches/schedule.js';

const random = (seed: number) => new TorchRandom('cpu', new torch.Generator('cpu', seed));

/** An image, a patch that fits into it, and how many. */
const cases = fc
  .record({
    channels: fc.integer({ min: 1, max: 5 }),
    height: fc.integer({ min: 2, max: 40 }),
    width: fc.integer({ min: 2, max: 40 }),
    count: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(1000),
  })
  .chain((image) =>
    fc.record({
      image: fc.constant(image),
      patch: fc.record({
        height: fc.integer({ min: 1, max: image.height }),
        width: fc.integer({ min: 1, max: image.width }),
      }),
    }),
  );

/** Pixel (row, column) of channel c of image n holds its own place, so that a patch tells where it is from. */
function numbered(count: number, channels: number, height: number, width: number): torch.Tensor {
  return torch
    .arange(count * channels * height * width, { dtype: 'float32' })
    .reshape([count, channels, height, width]);
}

describe('patches of images of any shape', () => {
  it('lie inside the image, hold its pixels, and know where these were', () => {
    fc.assert(
      fc.property(cases, ({ image, patch }) =>
        torch.scope(() => {
          const { channels, height, width, count, seed } = image;
          const images = numbered(count, channels, height, width);
          const offsets = drawOffsets(count, patch, image, random(seed));
          const pixels = extractPatches(images, patch, offsets);
          const positions = patchPositions(patch, image, offsets);
          expect(pixels.shape).toEqual([count, channels, patch.height, patch.width]);
          expect(positions.shape).toEqual([count, 2, patch.height, patch.width]);
          const [values, places] = [pixels.toFloat32Array(), positions.toFloat32Array()];
          const area = patch.height * patch.width;
          for (let n = 0; n < count; n++) {
            for (let p = 0; p < area; p++) {
              const place = values[n * channels * area + p] - n * channels * height * width;
              const [row, col] = [Math.floor(place / width), place % width];
              // Each axis spans [−1, 1] on its own, whatever the other one's length.
              expect(places[2 * n * area + p]).toBeCloseTo((2 * col) / (width - 1) - 1, 5);
              expect(places[(2 * n + 1) * area + p]).toBeCloseTo((2 * row) / (height - 1) - 1, 5);
              for (let c = 1; c < channels; c++) {
                expect(values[(n * channels + c) * area + p]).toBe(
                  (n * channels + c) * height * width + place,
                );
              }
            }
          }
        }),
      ),
      { numRuns: 40 },
    );
  });

  const shapes = fc.record({
    factor: fc.constantFrom(1, 2, 4, 8),
    rows: fc.integer({ min: 1, max: 16 }),
    cols: fc.integer({ min: 1, max: 16 }),
    realP: fc.double({ min: 0, max: 1, noNaN: true }),
  });

  it('default sizes fit, can be halved, grow, and end with the whole image', () => {
    fc.assert(
      fc.property(shapes, ({ factor, rows, cols, realP }) => {
        const image = { height: rows * factor, width: cols * factor };
        const sizes = defaultPatchSizes(image, realP, factor);
        expect(sizes.at(-1)).toMatchObject({ ...image, multiplier: 1 });
        expect(sizes.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 9);
        for (const { height, width } of sizes) {
          expect([height % factor, width % factor]).toEqual([0, 0]);
          expect(height <= image.height && width <= image.width).toBe(true);
        }
        const areas = sizes.map(({ height, width }) => height * width);
        expect(areas).toEqual([...areas].sort((a, b) => a - b));
        expect(meanMultiplier(sizes)).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  it('square sides are clipped to the image', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 200 }), ({ rows, cols }, side) => {
        const image = { height: rows * 4, width: cols * 4 };
        const [size] = customPatchSizes(image, new Map([[side, 1]]));
        expect(size).toMatchObject({
          height: Math.min(side, image.height),
          width: Math.min(side, image.width),
        });
        expect(size.multiplier).toBeGreaterThanOrEqual(1);
      }),
    );
  });
});
