/**
 * What the studio tells of the images of a run: the same ones as the run trains on, with patches by its schedule.
 * STUDIO_SCREENSHOT=1 writes docs/images/studio-data.png.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium } from '../../../browser/test/helpers/chromium.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { holdOut } from '../../src/data/views.js';
import type { RunDataView } from '../../src/studio/api.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { openTrainingData } from '../../src/training/data.js';
import { canvasPixels, StudioPages, violations } from '../helpers/studio-pages.js';
import { makeRun } from '../helpers/studio-runs.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';

let folder: string;
let runs: string;
let studio: Studio;

const get = (path: string) => fetch(`http://127.0.0.1:${studio.port}${path}`);
const viewOf = async (id: string, seed = 0): Promise<RunDataView> =>
  (await get(`/api/runs/${id}/data?seed=${seed}`)).json();

const icons: TrainOptionsInput = {
  ...{ resolution: 16, cond: true, xflip: true, holdout: 20, maxImages: 200, schedule: 'stratified' },
};

beforeAll(async () => {
  folder = await temporaryFolder();
  runs = join(folder, 'runs');
  const zip = await iconSet(folder);
  const photos = join(folder, 'photos');
  await mkdir(photos);
  for (const [i, width] of [24, 30, 30].entries()) {
    const create = { width, height: 20, channels: 3, background: { r: 80 * i, g: 120, b: 200 } } as const;
    await sharp({ create })
      .png()
      .toFile(join(photos, `${i}.png`));
  }
  await writeFile(join(photos, 'empty.png'), '');
  await makeRun(runs, '00000-icons', { config: { ...icons, data: zip } });
  await makeRun(runs, '00001-photos', {
    config: { data: photos, resolution: { width: 24, height: 16 }, schedule: 'progressive', seed: 3 },
  });
  await makeRun(runs, '00002-gone', { config: { data: join(folder, 'gone.zip') } });
  await makeRun(runs, '00003-latents', { config: { data: join(folder, 'codes.safetensors') } });
  studio = await startStudio({ folder: runs, host: '127.0.0.1', port: 0 });
});
afterAll(() => studio?.close());

describe('the data of a run', () => {
  it('is that which it trains on: images, labels, and none that is held out', async () => {
    const view = await viewOf('00000-icons', 5);
    const all = await openTrainingData(
      resolveTrainOptions({ call: { preset: 'tiny', seed: 1, ...icons, data: join(folder, 'icons.zip') } }),
    );
    const { train } = await holdOut(all, 20, 1);
    try {
      expect(view).toMatchObject({ images: 180, heldOut: 20, width: 16, height: 16, hasMirrored: true });
      const trained = new Set(Array.from({ length: train.baseLength }, (_, i) => train.nameOf(i)));
      for (const { image, name, label } of view.patches) {
        expect(trained).toContain(name);
        expect(all.nameOf(image)).toBe(name);
        expect(label).toBe(all.classNames?.[all.labelOf(image) as number]);
        await all.ready([image]);
        const expected = all.gather([image], { size: 16, rows: [0], cols: [0] });
        const png = await (await get(`/api/runs/00000-icons/data/${image}.png`)).arrayBuffer();
        const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
        const planes = Array.from(expected, (_, i) => data[(i % 256) * info.channels + Math.floor(i / 256)]);
        expect(planes).toEqual([...expected]);
      }
      expect(view.classes?.reduce((sum, { count }) => sum + count, 0)).toBe(200);
    } finally {
      await all.close();
    }
  });

  it('has patches of the sizes of the schedule, the same ones for the same seed', async () => {
    const views = await Promise.all(Array.from({ length: 12 }, (_, seed) => viewOf('00000-icons', seed)));
    const patches = views.flatMap((view) => view.patches);
    expect(await viewOf('00000-icons', 7)).toEqual(views[7]);
    expect(views[0].patches).not.toEqual(views[1].patches);
    const sides = [...new Set(patches.map(({ width }) => width))].sort((a, b) => a - b);
    expect(sides).toEqual(views[0].patchSizes.map(({ width }) => width));
    for (const { row, col, width, height } of patches) {
      expect(row >= 0 && row + height <= 16 && col >= 0 && col + width <= 16).toBe(true);
    }
    expect(new Set(patches.filter(({ width }) => width < 16).map(({ col }) => col)).size).toBeGreaterThan(4);
    expect(patches.some(({ isMirrored }) => isMirrored)).toBe(true);
  });

  it('tells sizes, what is left out and why, and a schedule that has come half way', async () => {
    const view = await viewOf('00001-photos');
    expect(view).toMatchObject({
      ...{ images: 3, width: 24, height: 16, channels: 3, classes: null, schedule: 'progressive' },
      sizes: [
        { width: 30, height: 20, count: 2 },
        { width: 24, height: 20, count: 1 },
      ],
      skipped: [{ file: 'empty.png', reason: 'empty file' }],
      ...{ skippedCount: 1, progress: 1 },
    });
    // At the end of the run, whole images.
    expect(view.patchSizes).toEqual([{ width: 24, height: 16, probability: 1 }]);
    expect((await get('/api/runs/00001-photos/data/3.png')).status).toBe(404);
    expect((await get('/api/runs/00001-photos/data/../../../x')).status).toBe(404);
  });

  it.each([
    ['00002-gone', 'the images of the run, /.*gone.zip, are not there any more'],
    ['00003-latents', 'the run trains on latents'],
  ])('is said to be missing: %s', async (id, message) => {
    const answer = await get(`/api/runs/${id}/data`);
    expect(answer.status).toBe(422);
    expect(((await answer.json()) as { error: string }).error).toMatch(new RegExp(message));
  });

  it('is looked at again once it has come back', async () => {
    await rename(join(folder, 'photos'), join(folder, 'moved'));
    expect((await get('/api/runs/00001-photos/data')).status).toBe(422);
    await rename(join(folder, 'moved'), join(folder, 'photos'));
    expect((await viewOf('00001-photos')).images).toBe(3);
  });
});

describe.skipIf(!hasChromium)('its page', () => {
  it('shows images with patches, or coordinates as colours', async () => {
    const pages = await StudioPages.launch();
    try {
      const page = await pages.open(studio, '#/data?runs=00000-icons,00001-photos,00002-gone');
      await page.getByText(/gone\.zip, are not there any more/).waitFor();
      const first = page.getByRole('region', { name: 'Data of 00000-icons' });
      const tile = first.locator('.tile').first();
      await tile.waitFor();
      expect(await first.locator('.tile').count()).toBe(24);
      const pixels = async () => (await canvasPixels(tile.locator('canvas')))[0];
      const { patches } = await viewOf('00000-icons');
      const { row, col, width, height } = patches[0];
      const alphas = (await pixels()).filter((_, i) => i % 4 === 3);
      expect(alphas.filter((alpha) => alpha === 0)).toHaveLength(width * height);
      expect(alphas[row * 16 + col]).toBe(0);
      await page.getByLabel('coordinates as colours').check();
      await expect.poll(async () => (await pixels())[4 * (row * 16 + col) + 3]).toBe(255);
      const [red, , blue] = (await pixels()).slice(4 * (row * 16 + col));
      expect([red, blue]).toEqual([Math.round((col / 15) * 255), Math.round((row / 15) * 255)]);
      expect(await violations(page)).toEqual([]);

      const names = () =>
        first.locator('.tile').evaluateAll((all) => all.map((one) => one.getAttribute('title')));
      const before = await names();
      await page.getByRole('button', { name: 'Draw others' }).click();
      await expect.poll(names).not.toEqual(before);
      await expect
        .poll(() =>
          first
            .locator('.tile img')
            .evaluateAll((all) => all.every((one) => (one as HTMLImageElement).naturalWidth === 16)),
        )
        .toBe(true);
      expect(pages.faults).toEqual([]);
      if (process.env.STUDIO_SCREENSHOT) {
        await page.goto(`${studio.url}#/data?runs=00000-icons`);
        await page.getByRole('region', { name: 'Data of 00001-photos' }).waitFor({ state: 'detached' });
        await page.setViewportSize({ width: 1240, height: 640 });
        await page.getByLabel('coordinates as colours').uncheck();
        // Not the temporary folder of the test.
        await page.evaluate(`document.querySelector('.data code').textContent = 'icons.zip'`);
        const png = sharp(await page.screenshot()).png({ palette: true, colours: 128 });
        await png.toFile(resolve(import.meta.dirname, '../../../../docs/images/studio-data.png'));
      }
    } finally {
      await pages.close();
    }
  });
});
