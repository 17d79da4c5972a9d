/** TIFFs with bands beyond their colours, as satellites and scanners make them. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import { datasetInfo } from '../../src/data/dataset-info.js';
import { openImages } from '../../src/data/open-images.js';
import { prepare } from '../../src/index.js';
import { openTrainingData } from '../../src/training/data.js';
import { whole } from '../helpers/images.js';
import { type TiffOptions, tiffBytes } from '../helpers/tiff.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-tiff-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

let folders = 0;
async function folderWith(options: TiffOptions): Promise<string> {
  const folder = join(scratch, String(folders++));
  await mkdir(folder);
  await writeFile(join(folder, 'x.tif'), tiffBytes(options));
  return folder;
}

const [GREY, RGB, CMYK] = [1, 2, 5];
const DEEP = { bits: 16 };
const deep = (...values: number[]) => values.map((value) => value * 257);

it.each<[string, TiffOptions, number[], number[]]>([
  [
    'RGB and near infrared',
    { photometric: RGB, extra: [0], values: [200, 100, 50, 0] },
    [200, 100, 50],
    [200, 100, 50, 0],
  ],
  [
    'the same, 16 bits',
    { ...DEEP, photometric: RGB, extra: [0], values: deep(200, 100, 50, 9) },
    [200, 100, 50],
    [200, 100, 50, 9],
  ],
  [
    'the same, big-endian BigTIFF',
    { photometric: RGB, extra: [0], values: [200, 100, 50, 0], bigEndian: true, isBig: true },
    [200, 100, 50],
    [200, 100, 50, 0],
  ],
  [
    'four bands that call themselves grey',
    { ...DEEP, photometric: GREY, extra: [0, 0, 0], values: deep(200, 100, 50, 9) },
    [200, 100, 50],
    [200, 100, 50, 9],
  ],
  [
    'three bands that call themselves grey',
    { photometric: GREY, extra: [0, 0], values: [200, 100, 50] },
    [200, 100, 50],
    [200, 100, 50, 255],
  ],
  [
    'grey and another band',
    { photometric: GREY, extra: [0], values: [200, 100] },
    [200],
    [200, 200, 200, 255],
  ],
  [
    'RGB and opacity',
    { photometric: RGB, extra: [2], values: [200, 100, 50, 0] },
    [255, 255, 255],
    [200, 100, 50, 0],
  ],
  ['grey and opacity', { photometric: GREY, extra: [2], values: [200, 0] }, [255], [200, 200, 200, 0]],
])('%s', async (_name, options, pixel, four) => {
  const folder = await folderWith(options);
  const set = await openImages(folder);
  expect([set.channels, ...(await whole(set))]).toEqual([pixel.length, ...pixel]);
  const all = await openImages(folder, { channels: 4 });
  expect([...(await whole(all))]).toEqual(four);
});

it('a fourth band is no opacity when images are resized', async () => {
  const folder = await folderWith({ photometric: RGB, extra: [0], values: [200, 100, 50, 0], side: 4 });
  const set = await openImages(folder, { channels: 4, resolution: 2 });
  expect([...(await whole(set))]).toEqual([200, 100, 50, 0].flatMap((value) => Array(4).fill(value)));
});

it('a band left out of CMYK', async () => {
  const values = [0, 0, 0, 0, 200];
  const set = await openImages(await folderWith({ photometric: CMYK, extra: [0], values }));
  expect([set.channels, set.report.droppedBands]).toEqual([3, 1]);
  expect(Math.min(...(await whole(set)))).toBeGreaterThan(250);
});

it('says once that a band is left out: when training, preparing and describing', async () => {
  const folder = await folderWith({ photometric: RGB, extra: [0], values: [200, 100, 50, 0] });
  await writeFile(join(folder, 'y.tif'), tiffBytes({ photometric: RGB, extra: [0], values: [1, 2, 3, 4] }));
  const said =
    '2 images have a band that is neither colour nor opacity; it is left out (of four bands --channels 4 takes all)';
  const messages = async (channels: 4 | null) => {
    const all: string[] = [];
    const options = resolveTrainOptions({ call: { data: folder, resolution: 16, channels } });
    await openTrainingData(options, { emit: (event) => event.type === 'warning' && all.push(event.message) });
    return all;
  };
  expect(await messages(null)).toEqual([said]);
  expect(await messages(4)).toEqual([]);
  expect((await prepare({ source: folder, out: `${folder}.zip` })).warnings).toEqual([said]);
  expect((await datasetInfo(folder)).warnings).toEqual([said]);
});

it.each<[TiffOptions, string]>([
  [{ photometric: RGB, extra: [0, 0], values: [1, 2, 3, 4, 5] }, '5 bands; 1, 3 or 4 are read'],
  [{ photometric: GREY, extra: [0, 0, 0, 0], values: [1, 2, 3, 4, 5] }, '5 bands; 1, 3 or 4 are read'],
  [{ photometric: RGB, extra: [2, 0, 0], values: [1, 2, 3, 4, 5, 6] }, '6 bands; 1, 3 or 4 are read'],
  [
    { photometric: RGB, values: [1, 2, 3, 4] },
    '4 bands, of which its tags describe 3; save it again as RGB or RGBA',
  ],
  [
    { photometric: GREY, extra: [0, 0, 2], values: [1, 2, 3, 4] },
    '4 bands, grey and opacity among them; save it again as RGB or RGBA',
  ],
])('refuses %j', async (options, reason) => {
  const folder = await folderWith(options);
  await expect(openImages(folder)).rejects.toThrow(`x.tif: ${reason})`);
  await expect(prepare({ source: folder, out: `${folder}.zip` })).rejects.toThrow(reason);
});
