/** Drawing in the page: the pictures of Node, from a snapshot that the server exports. */
import { copyFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium } from '../../../browser/test/helpers/chromium.js';
import { writeTinyModel } from '../../../browser/test/helpers/models.js';
import { generate } from '../../src/index.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { canvasPixels, StudioPages, violations } from '../helpers/studio-pages.js';
import { makeRun } from '../helpers/studio-runs.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const SNAPSHOT = 'network-snapshot-000010.safetensors';

let folder: string;
let snapshot: string;
let studio: Studio;
const cacheBefore = process.env.PATCH_DIFFUSION_CACHE;

beforeAll(async () => {
  folder = await temporaryFolder();
  process.env.PATCH_DIFFUSION_CACHE = join(folder, 'cache');
  const run = await makeRun(join(folder, 'runs'), '00000-shapes', {});
  const made = await writeTinyModel(join(folder, 'model'));
  snapshot = join(run, 'snapshots', SNAPSHOT);
  await copyFile(made.snapshot, snapshot);
  await writeFile(join(run, 'snapshots', 'network-snapshot-000020.safetensors'), 'no snapshot');
  studio = await startStudio({
    folder: join(folder, 'runs'),
    host: '127.0.0.1',
    port: 0,
    allowGenerate: true,
  });
});
afterAll(async () => {
  await studio?.close();
  if (cacheBefore === undefined) delete process.env.PATCH_DIFFUSION_CACHE;
  else process.env.PATCH_DIFFUSION_CACHE = cacheBefore;
});

const shownPixels = (page: Page) => canvasPixels(page.locator('.pictures canvas'));

describe('what is served for it', () => {
  it('needs the token and a model that was asked for, and names no other file', async () => {
    const origin = `http://127.0.0.1:${studio.port}`;
    const open = await fetch(studio.url, { redirect: 'manual' });
    const cookie = open.headers.get('set-cookie')!.split(';')[0];
    const get = (path: string) => fetch(origin + path, { headers: { cookie } });
    expect((await fetch(`${origin}/npm/onnxruntime-web/dist/ort.wasm.bundle.min.mjs`)).status).toBe(401);
    const worker = await get('/npm/@patch-diffusion/browser/dist/web/worker.js');
    expect(worker.headers.get('content-type')).toBe('text/javascript');
    expect(worker.headers.get('cross-origin-embedder-policy')).toBe('require-corp');
    expect(worker.headers.get('content-security-policy')).toMatch(
      /script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'/,
    );
    await worker.body?.cancel();
    for (const path of [
      '/npm/@patch-diffusion/browser/package.json',
      '/npm/..%2f..%2fpackage.json',
      '/api/models/x/model.onnx',
    ])
      expect((await get(path)).status, path).toBe(404);
  });
});

describe.skipIf(!hasChromium)('in Chromium', () => {
  it('draws what Node draws, shows how it came about, and stops when it is told to', {
    timeout: 900_000,
  }, async () => {
    const pages = await StudioPages.launch();
    try {
      const page = await pages.open(studio, '#/generate?runs=00000-shapes', {
        viewport: { width: 900, height: 900 },
      });
      const drawn = page.getByRole('figure', { name: 'Drawn in this page' });
      await page.getByLabel('Snapshot').selectOption(`00000-shapes/${SNAPSHOT}`);
      await page.getByLabel('Where').selectOption('in this page');
      await page.getByLabel('Seeds').fill('3,17-18');
      await page.getByLabel('Steps').fill('6');
      await page.getByLabel('Churn').fill('0');
      await page.getByRole('button', { name: 'Draw', exact: true }).click();
      await drawn.getByRole('button', { name: 'Cancel' }).waitFor({ state: 'detached' });
      const pictures = await shownPixels(page);
      expect(pictures).toHaveLength(3);
      const seeds = [3, 17, 18];
      const { files } = await generate({
        ...{ network: snapshot, seeds, steps: 6, sChurn: 0, out: join(folder, 'images') },
        ...{ noise: 'portable', precision: 'fp32' },
      });
      for (const [n, file] of files.entries()) {
        const { data } = await sharp(file).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
        const worst = Math.max(...pictures[n].map((byte, i) => Math.abs(byte - data[i])));
        expect(worst, `seed ${seeds[n]}`).toBeLessThanOrEqual(2);
        expect(new Set(pictures[n]).size).toBeGreaterThan(20);
      }
      expect(await violations(page)).toEqual([]);

      // How they came out of the noise.
      const steps = drawn.getByRole('slider');
      await steps.focus();
      await page.keyboard.press('Home');
      await drawn.getByText('1 of 6').waitFor();
      await expect.poll(() => shownPixels(page)).not.toEqual(pictures);
      await page.keyboard.press('End');
      await expect.poll(() => shownPixels(page)).toEqual(pictures);

      await page.getByLabel('Seeds').fill('0-63');
      await page.getByLabel('Steps').fill('1000');
      await page.getByRole('button', { name: 'Draw', exact: true }).click();
      await drawn.getByText(/^Step \d+ of 1000/).waitFor();
      await drawn.getByRole('button', { name: 'Cancel' }).click();
      await drawn.getByText('cancelled').waitFor();

      await page.getByLabel('Seeds').fill('0-99');
      await page.getByRole('button', { name: 'Draw', exact: true }).click();
      await drawn.getByText(/at most 64 images at a time/).waitFor();
      // One export for all of that.
      expect(await readdir(join(folder, 'cache/studio-onnx'))).toHaveLength(1);

      await page.getByLabel('Snapshot').selectOption('00000-shapes/network-snapshot-000020.safetensors');
      await page.getByLabel('Seeds').fill('1');
      await page.getByRole('button', { name: 'Draw', exact: true }).click();
      await drawn.getByText(/the snapshot cannot be drawn in the page: .*network-snapshot-000020/).waitFor();
      expect(pages.faults).toEqual([]);
    } finally {
      await pages.close();
    }
  });
});
