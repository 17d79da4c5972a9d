import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CachedImages } from '../../src/data/cached-images.js';
import { forEachConcurrently } from '../../src/data/concurrency.js';
import { DeviceImages } from '../../src/data/device-images.js';
import { holdOut } from '../../src/data/views.js';

const value = (image: number, c: number, y: number, x: number) =>
  (image * 101 + c * 57 + y * 13 + x * 3) % 256;

/** A set of computed images, `bad` ones left out; `loads` counts how often each was asked for. */
function makeSet(
  count: number,
  channels: number,
  height: number,
  width: number,
  xflip: boolean,
  bad: readonly number[] = [],
) {
  const loads = new Array<number>(count).fill(0);
  const set = new CachedImages({
    name: 'test',
    path: 'test',
    count,
    channels,
    height,
    width,
    xflip,
    labels: { dim: 3, classNames: null, values: Array.from({ length: count }, (_, i) => i % 3) },
    report: { used: count, skipped: [] },
    entries: Array.from({ length: count }, (_, i) => i),
    load: async (image) => {
      loads[image]++;
      if (bad.includes(image)) throw new Error('bad');
      const data = new Uint8Array(height * width * channels);
      for (let i = 0; i < data.length; i++) {
        const pixel = Math.floor(i / channels);
        data[i] = value(image, i % channels, Math.floor(pixel / width), pixel % width);
      }
      return { data, width, height, channels };
    },
    fillsInBackground: true,
    release: async () => {},
  });
  return { set, loads };
}

const scene = fc
  .record({
    count: fc.integer({ min: 1, max: 5 }),
    channels: fc.constantFrom(1, 3),
    height: fc.integer({ min: 1, max: 12 }),
    width: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 96, max: 110 })),
    xflip: fc.boolean(),
  })
  .chain((shape) =>
    fc
      .record({
        cropHeight: fc.integer({ min: 1, max: shape.height }),
        cropWidth: fc.integer({ min: 1, max: shape.width }),
      })
      .chain((crop) =>
        fc.record({
          shape: fc.constant(shape),
          crop: fc.constant(crop),
          picks: fc.array(
            fc.tuple(
              fc.nat(shape.count * (shape.xflip ? 2 : 1) - 1),
              fc.nat(shape.height - crop.cropHeight),
              fc.nat(shape.width - crop.cropWidth),
            ),
            { minLength: 1, maxLength: 6 },
          ),
        }),
      ),
  );

describe('gather', () => {
  it('equals cutting each pixel out by hand', async () => {
    await fc.assert(
      fc.asyncProperty(scene, async ({ shape, crop, picks }) => {
        const { count, channels, height, width, xflip } = shape;
        const { cropHeight, cropWidth } = crop;
        const { set } = makeSet(count, channels, height, width, xflip);
        const indices = picks.map(([index]) => index);
        await set.ready(indices);
        const size = cropHeight === cropWidth ? cropHeight : { height: cropHeight, width: cropWidth };
        const got = set.gather(indices, { size, rows: picks.map((p) => p[1]), cols: picks.map((p) => p[2]) });
        const expected: number[] = [];
        for (const [index, top, left] of picks) {
          for (let c = 0; c < channels; c++) {
            for (let y = top; y < top + cropHeight; y++) {
              for (let x = left; x < left + cropWidth; x++) {
                expected.push(value(index % count, c, y, index >= count ? width - 1 - x : x));
              }
            }
          }
        }
        expect([...got]).toEqual(expected);
        torch.scope(() => {
          const onDevice = new DeviceImages(set, 'cpu');
          const [rows, cols] = [1, 2].map((k) =>
            torch.tensor(
              picks.map((p) => p[k]),
              { dtype: 'int64' },
            ),
          );
          const patch = { height: cropHeight, width: cropWidth };
          const cut = onDevice.cut(indices, patch, { rows, cols });
          expect(cut.shape).toEqual([picks.length, channels, cropHeight, cropWidth]);
          expect(cut.toTypedArray()).toEqual(got);
          expect(onDevice.cut(indices, patch, { rows, cols }).toTypedArray()).toEqual(got);
        });
      }),
    );
  });

  it('fills a given buffer and refuses what does not fit', async () => {
    const { set } = makeSet(2, 3, 8, 8, false);
    const crop = { size: 4, rows: [0], cols: [4] };
    expect(() => set.gather([1], crop)).toThrow(/before it was ready/);
    await set.ready([1]);
    const out = new Uint8Array(48);
    expect(set.gather([1], crop, out)).toBe(out);
    expect(out[0]).toBe(value(1, 0, 0, 4));
    expect(() => set.gather([1], crop, new Uint8Array(47))).toThrow(/internal: gather/);
    expect(() => set.gather([1], { ...crop, cols: [5] })).toThrow(/leaves the image/);
    expect(() => set.gather([2], crop)).toThrow(/does not exist/);
  });
});

describe('CachedImages', () => {
  it('decodes each image once, whatever asks for it', async () => {
    const { set, loads } = makeSet(40, 1, 4, 4, true);
    await Promise.all([set.ready([3, 3, 43, 39]), set.ready([3, 20])]);
    await set.ready([...loads.keys()]);
    await set.close();
    expect(loads.every((n) => n === 1)).toBe(true);
  });

  it('drops images that fail, and keeps the labels of the others in place', async () => {
    const { set } = makeSet(6, 1, 2, 2, true, [1, 4]);
    const failed: string[] = [];
    await set.loadAll(
      (i) => `image ${i}`,
      (file) => failed.push(file),
      () => undefined,
    );
    expect(failed.sort()).toEqual(['image 1', 'image 4']);
    expect([set.baseLength, set.length]).toEqual([4, 8]);
    const firsts = set.gather([0, 1, 2, 3], { size: 1, rows: [0, 0, 0, 0], cols: [0, 0, 0, 0] });
    expect([...firsts]).toEqual([0, 2, 3, 5].map((i) => value(i, 0, 0, 0)));
    expect([...set.labels([1])]).toEqual([0, 0, 1]);
  });

  it('holds images out of training, mirrored copies too', async () => {
    const { set } = makeSet(10, 1, 2, 2, true);
    const { train, heldOut } = await holdOut(set, 3, 5);
    expect([train.length, train.baseLength, heldOut.length]).toEqual([14, 7, 3]);
    await set.ready(Array.from({ length: 10 }, (_, i) => i));
    const id = (part: typeof train, i: number) => part.gather([i], { size: 1, rows: [0], cols: [0] })[0];
    const ids = new Set(
      [...Array(7).keys()].map((i) => id(train, i)).concat([...Array(3).keys()].map((i) => id(heldOut, i))),
    );
    expect(ids.size).toBe(10);
    await expect(holdOut(set, 10, 0)).rejects.toThrow(RangeError);
  });
});

describe('images that cannot be loaded', () => {
  it('have no substitute when it is the disk that fails', async () => {
    const reported: number[] = [];
    const set = new CachedImages({
      name: 'test',
      path: 'test',
      count: 2,
      channels: 1,
      height: 1,
      width: 1,
      xflip: false,
      labels: null,
      report: { used: 2, skipped: [] },
      entries: [0, 1],
      load: async (entry) => {
        if (entry === 0) throw new Error('EIO');
        return { data: new Uint8Array(1), width: 1, height: 1, channels: 1 };
      },
      onUnusable: (entry) => reported.push(entry),
      release: async () => {},
    });
    await expect(set.ready([0])).rejects.toThrow('EIO');
    expect(reported).toEqual([]);
    await set.close();
  });
});

describe('forEachConcurrently', () => {
  it('runs at most so many at a time, and reports the first failure', async () => {
    let running = 0;
    let most = 0;
    await forEachConcurrently([...Array(20).keys()], 3, async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running--;
    });
    expect(most).toBe(3);
    const failing = forEachConcurrently([1, 2, 3], 2, async (n) => {
      if (n === 2) throw new Error('two');
    });
    await expect(failing).rejects.toThrow('two');
  });
});
