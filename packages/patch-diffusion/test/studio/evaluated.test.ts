/** What the studio shows of evaluations: losses by noise level, the best snapshot, nearest training images; and averages. */
import { copyFile, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium } from '../../../browser/test/helpers/chromium.js';
import type { RunDetail, RunSeries } from '../../src/studio/api.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { StudioPages, violations } from '../helpers/studio-pages.js';
import { makeRun } from '../helpers/studio-runs.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const SIGMAS = [0.1, 0.2, 0.4];
let studio: Studio;
const get = (path: string) => fetch(`http://127.0.0.1:${studio.port}/api/runs/${path}`);
const json = async <T>(path: string): Promise<T> => (await get(path)).json() as Promise<T>;

const line = (nimg: number, loss: number, curves: object) =>
  `${JSON.stringify({
    ...{ format: 1, kind: 'run', nimg, step: nimg / 100, at: '2026-11-29T18:20:00Z' },
    ...{ data: { path: 'icons.zip', isHeldOut: true }, curves },
    snapshot: `runs/x/snapshots/network-snapshot-0000${nimg / 1000}.safetensors`,
    metrics: { heldOutLoss: { value: loss, n: 100 } },
  })}\n`;

beforeAll(async () => {
  const runs = join(await temporaryFolder(), 'runs');
  const evaluated = await makeRun(runs, '00000-evaluated');
  for (const kimg of [20, 40, 60])
    await writeFile(join(evaluated, 'snapshots', `network-snapshot-0000${kimg}.safetensors`), '');
  const patches = { '8': [3, 2, 1], '16': [2.5, 1.5, 0.5] };
  await writeFile(
    join(evaluated, 'evaluations.jsonl'),
    line(40_000, 0.4, { sigmas: SIGMAS, judged: [2, 1, 0.5], training: [1.9, 0.9, 0.4], patches }) +
      line(20_000, 0.6, { sigmas: SIGMAS, judged: [3, 2, 1], training: null, patches: {} }) +
      line(60_000, 0.5, { sigmas: 'none' }),
  );
  const [sheet] = await readdir(join(evaluated, 'samples'));
  for (const folder of ['nearest', 'averages']) await mkdir(join(evaluated, folder));
  await copyFile(join(evaluated, 'samples', sheet), join(evaluated, 'nearest', 'nearest-000040.png'));
  await writeFile(join(evaluated, 'averages', 'power-averages-000060.safetensors'), '');
  // Without evaluations: held-out losses of the ticks, every fifth line of which has one; a line is 2 kimg.
  const ticks = await makeRun(runs, '00001-ticks', { lines: 40 });
  for (const kimg of ['000012', '000020', '000032'])
    await writeFile(join(ticks, 'snapshots', `network-snapshot-${kimg}.safetensors`), '');
  await makeRun(runs, '00002-plain', { lines: 5 });
  studio = await startStudio({ folder: runs, host: '127.0.0.1', port: 0 });
});
afterAll(() => studio?.close());

describe('what is told of evaluations', () => {
  it('losses by noise level, of the newest one that has them', async () => {
    const { noise } = await json<RunSeries>('00000-evaluated/series');
    expect(noise).toEqual({
      ...{ kimg: 40, sigmas: SIGMAS, judged: [2, 1, 0.5], isHeldOut: true, training: [1.9, 0.9, 0.4] },
      patches: { '8': [3, 2, 1], '16': [2.5, 1.5, 0.5] },
    });
    expect((await json<RunSeries>('00002-plain/series')).noise).toBeNull();
  });

  it('the best snapshot, by evaluations or by the losses of the ticks', async () => {
    const best = async (id: string) => (await json<RunDetail>(id)).best;
    expect(await best('00000-evaluated')).toBe('network-snapshot-000040.safetensors');
    // Of the three ticks, 12 and 32 kimg have a held-out loss, and it falls.
    expect(await best('00001-ticks')).toBe('network-snapshot-000032.safetensors');
    expect(await best('00002-plain')).toBeNull();
  });

  it('nearest training images, and whether averages can be made', async () => {
    const detail = await json<RunDetail>('00000-evaluated');
    expect(detail.nearest).toEqual([{ name: 'nearest-000040.png', kimg: 40 }]);
    expect(detail.emaLengths).toEqual({ min: 0.005, max: 0.28 });
    expect((await json<RunDetail>('00002-plain')).emaLengths).toBeNull();
    const sheet = await get('00000-evaluated/nearest/nearest-000040.png');
    expect(sheet.headers.get('content-type')).toBe('image/png');
    await sheet.body?.cancel();
    for (const path of ['nearest/fakes-000000.png', 'averages/power-averages-000060.safetensors'])
      expect((await get(`00000-evaluated/${path}`)).status, path).toBe(404);
  });
});

describe.skipIf(!hasChromium)('its pages', () => {
  it('draw the curves and show the nearest training images', async () => {
    const pages = await StudioPages.launch();
    try {
      const page = await pages.open(studio, '#/curves?runs=00000-evaluated');
      const levels = page.getByRole('region', { name: 'Evaluation: loss by noise level', exact: true });
      await levels.getByText('held-out images, 40 kimg').waitFor();
      expect(await levels.locator('li').count()).toBe(2);
      expect(await levels.locator('output').allTextContents()).toEqual(['0.5', '0.4']);
      await levels.getByRole('img').focus();
      await levels.locator('canvas').waitFor();
      await page.keyboard.press('ArrowRight');
      await levels.getByText('σ = 0.1', { exact: true }).waitFor();
      const sizes = page.getByRole('region', { name: 'Evaluation: loss by noise level and patch side (px)' });
      expect(await sizes.locator('.name').allTextContents()).toEqual(['8', '16', 'whole images']);
      expect(await violations(page)).toEqual([]);

      await page.getByRole('link', { name: 'Samples' }).click();
      await page.getByText('sheet 5 of 5').waitFor();
      const slider = page.getByRole('slider');
      await slider.focus();
      for (let press = 0; press < 2; press++) await page.keyboard.press('ArrowLeft');
      await page.getByText('best snapshot').waitFor();
      await page.getByText('Nearest training images, evaluated at 40 kimg').click();
      await page.getByRole('img', { name: /nearest to them/ }).waitFor();
      expect(await violations(page)).toEqual([]);
      expect(pages.faults).toEqual([]);
    } finally {
      await pages.close();
    }
  });
});
