/** Decoded images are kept for the next time, and never used where anything has changed. */
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { encodePng } from '../../src/data/png.js';
import { type OpenImagesOptions, openImages } from '../../src/index.js';
import { whole } from '../helpers/images.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

let dir: string;
let folder: string;

const picture = (value: number) =>
  encodePng({ data: new Uint8Array(20 * 18 * 3).fill(value), width: 20, height: 18, channels: 3 });

beforeAll(async () => {
  dir = await temporaryFolder();
  folder = join(dir, 'photos');
  for (const label of ['a', 'b']) {
    await mkdir(join(folder, label), { recursive: true });
    for (let i = 0; i < 101; i++) await writeFile(join(folder, label, `${i}.png`), picture(i));
  }
  await writeFile(join(folder, 'a/broken.png'), 'no image');
});

/** Pixels, labels and report of the set, and whether images were decoded for it. */
async function open(cache: string, options: OpenImagesOptions = {}) {
  let isDecoded = false;
  const onProgress = () => {
    isDecoded = true;
  };
  const set = await openImages(folder, { resolution: 16, cache, onProgress, ...options });
  const { report, channels, classNames } = set;
  const labels = Array.from({ length: set.length }, (_, i) => set.labelOf(i));
  const pixels = await whole(set);
  await set.close();
  return { isDecoded, set: { report, channels, classNames, labels, pixels: Buffer.from(pixels) } };
}

it('gives the same set, without decoding', async () => {
  const cache = join(dir, 'same');
  const first = await open(cache);
  expect(first.isDecoded).toBe(true);
  expect(first.set.report).toMatchObject({ used: 202, skipped: [{ file: 'a/broken.png' }] });
  expect(await open(cache)).toEqual({ ...first, isDecoded: false });
  expect((await open(cache, { xflip: true, seed: 9 })).isDecoded).toBe(false);
  for (const other of [{ resolution: 17 }, { channels: 1 as const }, { maxImages: 200 }])
    expect((await open(cache, other)).isDecoded).toBe(true);
  expect((await open(cache, { labels: false })).set.labels[0]).toBeNull();
});

it('notices a file that has changed, also of the same size and date', async () => {
  const cache = join(dir, 'changed');
  await open(cache);
  const file = join(folder, 'b/7.png');
  const { atime, mtime } = await stat(file);
  await writeFile(file, picture(200));
  await utimes(file, atime, mtime);
  const { isDecoded, set } = await open(cache);
  expect(isDecoded).toBe(true);
  expect(set.pixels.includes(200)).toBe(true);
  expect(await open(cache)).toEqual({ isDecoded: false, set });
});

it.each<[string, (bytes: Buffer) => Buffer]>([
  ['another byte', (bytes) => bytes.fill(bytes[bytes.length - 1] ^ 1, bytes.length - 1)],
  ['cut off', (bytes) => bytes.subarray(0, -1)],
  ['empty', () => Buffer.alloc(0)],
  ['a header that is none', (bytes) => bytes.fill('x', 4, 40)],
  ['a huge header', (bytes) => bytes.fill(255, 0, 4)],
])('decodes again where the file is damaged: %s', async (name, damage) => {
  const cache = join(dir, name);
  const { set } = await open(cache);
  const [file] = await readdir(join(cache, 'images'));
  const path = join(cache, 'images', file);
  await writeFile(path, damage(await readFile(path)));
  expect(await open(cache)).toEqual({ isDecoded: true, set });
  expect(await open(cache)).toEqual({ isDecoded: false, set });
});

it('does without where nothing can be written', async () => {
  const cache = join(dir, 'file');
  await writeFile(cache, '');
  expect((await open(cache)).isDecoded).toBe(true);
  expect((await open(cache)).isDecoded).toBe(true);
});
