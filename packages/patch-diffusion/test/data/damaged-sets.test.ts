/** Prepared datasets of which some images turn out to be damaged once they are open. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { datasetInfo } from '../../src/data/dataset-info.js';
import { openImages } from '../../src/data/open-images.js';
import type { DataSet, SkippedFile } from '../../src/data/types.js';
import { holdOut } from '../../src/data/views.js';
import { prepare } from '../../src/index.js';
import { type ImageSpec, imageFolder, range, whole } from '../helpers/images.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-damaged-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

/** A prepared zip of one-coloured images, each a class of its own, some of them damaged. */
async function damagedZip(name: string, colours: readonly string[], damaged: readonly number[]) {
  const files = colours.map(
    (colour, i) => [`${String(i).padStart(2, '0')}/x.png`, [8, 8, colour] as ImageSpec] as const,
  );
  const source = await imageFolder(join(scratch, `source-of-${name}`), Object.fromEntries(files));
  const path = join(scratch, `${name}.zip`);
  await prepare({ source, out: path });
  const bytes = await readFile(path);
  for (const i of damaged) bytes[bytes.indexOf(`00000/img${String(i).padStart(8, '0')}.png`) + 150] ^= 0xff;
  await writeFile(path, bytes);
  return path;
}

it('puts the next usable image, with its label, in the place of a damaged one', async () => {
  const path = await damagedZip('substitutes', ['red', 'lime', 'blue', 'white'], [0, 2, 3]);
  const open = async () => {
    const found: SkippedFile[] = [];
    const set = await openImages(path, { onSkip: (skipped) => found.push(skipped) });
    return { set, found };
  };
  const { set, found } = await open();
  const pixels = await whole(set);
  expect(set.length).toBe(4);
  expect(range(4).map((i) => [0, 1, 2].map((c) => pixels[i * 192 + c * 64]))).toEqual(
    Array(4).fill([0, 255, 0]),
  );
  expect([...set.labels(range(4))]).toEqual(range(4).flatMap(() => [0, 1, 0, 0]));
  const files = [0, 2, 3].map((i) => `00000/img0000000${i}.png`);
  expect(found.map(({ file }) => file).sort()).toEqual(files);
  expect(found[0].reason).toMatch(/wrong checksum/);
  expect(set.report).toEqual({ used: 1, skipped: found });
  await set.close();
  // The same in any order: what a slot holds depends on the files alone.
  const again = (await open()).set;
  for (const i of [3, 0, 2, 1]) await again.ready([i]);
  expect(await whole(again)).toEqual(pixels);
  expect(again.labels(range(4))).toEqual(set.labels(range(4)));
  await again.close();
});

it.each([0, 6, 8, 9, 10])('holds out images that training never sees, each once: seed %i', async (seed) => {
  const colours = range(20).map((i) => `rgb(${10 * i},0,0)`);
  const set = await openImages(await damagedZip(`held-out-${seed}`, colours, [7]));
  const { train, heldOut } = await holdOut(set, 6, seed);
  const imagesOf = async (part: DataSet) => {
    const pixels = await whole(part);
    return range(part.length).map((i) => pixels[i * 192] / 10);
  };
  const [seen, unseen] = [await imagesOf(train), await imagesOf(heldOut)];
  expect([seen.length, unseen.length]).toEqual([14, 6]);
  // The one that takes the place of no. 7 is seen twice.
  const usable = range(20).filter((i) => i !== 7);
  const sorted = [...new Set(seen), ...unseen].sort((a, b) => a - b);
  expect(sorted).toEqual(usable);
  expect(set.report.skipped.map(({ file }) => file)).toEqual(['00000/img00000007.png']);
  await set.close();
});

it('holds out no more images than can be used', async () => {
  const set = await openImages(await damagedZip('few-to-hold-out', ['red', 'lime', 'blue'], [0, 2]));
  await expect(holdOut(set, 2, 0)).rejects.toThrow(/--holdout 2: only 1 of the images in .* can be used/);
  await set.close();
});

it('stops at a damaged image when strict, even at one that the background finds', async () => {
  const path = await damagedZip('strict', ['red', 'lime', 'blue'], [2]);
  const set = await openImages(path, { strict: true });
  await expect(
    (async () => {
      for (;;) {
        await set.ready([0]);
        await new Promise(setImmediate);
      }
    })(),
  ).rejects.toThrow(/img00000002\.png in .*wrong checksum.*--strict/);
  await expect(set.ready([2])).rejects.toMatchObject({ code: 'DATA_UNUSABLE' });
  await set.close();
});

it('gives up when few images are left', async () => {
  const colours = Array.from({ length: 13 }, (_, i) => `rgb(${20 * i},0,0)`);
  const all = range(13);
  const set = await openImages(await damagedZip('few', colours, range(10)));
  await set.ready(all);
  expect(set.report.used).toBe(3);
  await set.close();
  const worse = await openImages(await damagedZip('fewer', colours, range(11)));
  await expect(worse.ready(all)).rejects.toMatchObject({
    code: 'DATA_DAMAGED',
    message: expect.stringMatching(/More than a tenth of .*make this dataset again/),
  });
  await worse.close();
});

it('gives up when no image is left, and when the archive is cut off', async () => {
  const path = await damagedZip('hopeless', ['red', 'lime'], [0, 1]);
  await expect(openImages(path)).rejects.toMatchObject({ code: 'DATA_EMPTY' });
  const out = join(scratch, 'hopeless-again.zip');
  await expect(prepare({ source: path, out })).rejects.toMatchObject({ code: 'DATA_EMPTY' });
  const bytes = await readFile(path);
  await writeFile(path, bytes.subarray(0, bytes.length >> 1));
  await expect(openImages(path)).rejects.toMatchObject({ code: 'DATA_ZIP' });
});

it('prepares and describes a set whose first image is damaged', async () => {
  const path = await damagedZip('first', ['red', 'lime', 'blue'], [0]);
  const info = await datasetInfo(path);
  expect([info.count, info.sizes, info.skipped.length]).toEqual([2, [{ width: 8, height: 8, count: 2 }], 1]);
  const report = await prepare({ source: path, out: join(scratch, 'first-again.zip') });
  expect([report.used, report.skipped.length]).toEqual([2, 1]);
});
