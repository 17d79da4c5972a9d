/**
 * The studio in a real browser. STUDIO_SCREENSHOT=1 writes docs/images/studio.png.
 */
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BrowserContextOptions, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium } from '../../../browser/test/helpers/chromium.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { startCli } from '../helpers/cli.js';
import { StudioPages, violations } from '../helpers/studio-pages.js';
import { makeRun } from '../helpers/studio-runs.js';
import { iconSet, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';

const root = resolve(import.meta.dirname, '../../../..');

describe.skipIf(!hasChromium)('the studio in Chromium', () => {
  let pages: StudioPages;
  let folder: string;
  let runs: string;
  let studio: Studio;

  beforeAll(async () => {
    folder = await temporaryFolder();
    runs = join(folder, 'runs');
    await makeRun(runs, '00000-icons', { json: { nimg: 100_000 }, evaluateEvery: 10 });
    await makeRun(runs, '00001-icons-lr2', { config: { lr: 2e-3, seed: 2 } });
    await makeRun(runs, '00002-photos', {
      lines: 12,
      config: { data: './photos.zip', preset: 'small' },
      json: { status: 'failed', error: 'the disk is full; free some space' },
    });
    studio = await startStudio({ folder: runs, host: '127.0.0.1', port: 0 });
    pages = await StudioPages.launch();
  });
  afterAll(async () => {
    await pages?.close();
    await studio?.close();
  });

  const open = (hash: string, options: BrowserContextOptions = {}, at = studio) =>
    pages.open(at, hash, options);

  /** The share of a chart's canvas that is not transparent. */
  const drawnShare = async (page: Page, chart: string): Promise<number> => {
    await page.locator(`section[aria-label="${chart}"] canvas`).waitFor();
    return page.evaluate(`(() => {
      const canvas = document.querySelector('section[aria-label="${chart}"] canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, i) => i % 4 === 3 && value > 0).length / (data.length / 4);
    })()`);
  };

  it('lists runs, filters and sorts them', async () => {
    const page = await open('');
    const ids = () => page.locator('.runs tbody th a').allTextContents();
    await page.getByText('the disk is full').waitFor();
    expect(await ids()).toEqual(['00002-photos', '00001-icons-lr2', '00000-icons']);
    await page.getByRole('button', { name: /^Loss/ }).click();
    expect(await ids()).toEqual(['00001-icons-lr2', '00000-icons', '00002-photos']);
    await page.getByRole('button', { name: 'failed 1' }).click();
    expect(await ids()).toEqual(['00002-photos']);
    await page.getByRole('button', { name: 'failed 1' }).click();
    await page.getByRole('searchbox').fill('lr2 tiny');
    expect(await ids()).toEqual(['00001-icons-lr2']);
    await page.getByRole('searchbox').fill('nothing');
    await page.getByText('No run fits the filter.').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  it('compares two runs by their curves', async () => {
    const page = await open('');
    await page.getByLabel('Select 00000-icons').check();
    await page.getByLabel('Select 00001-icons-lr2').check();
    await page.getByRole('link', { name: 'Compare 2 runs' }).click();
    const loss = page.getByRole('region', { name: 'Loss', exact: true });
    await loss.getByText('00001-icons-lr2').waitFor();
    expect(await loss.locator('li').count()).toBe(2);
    expect(await drawnShare(page, 'Loss')).toBeGreaterThan(0.01);

    // One of the two was evaluated.
    const distance = page.getByRole('region', { name: 'Evaluation: Fréchet distance' });
    expect(await distance.locator('li').allTextContents()).toEqual([expect.stringMatching(/^00000-icons/)]);

    // Values under the cursor: with the mouse, and with the keyboard.
    const last = await loss.locator('output').first().textContent();
    const over = (await loss.locator('.u-over').boundingBox())!;
    await page.mouse.move(over.x + over.width / 4, over.y + over.height / 2);
    await loss.getByText(/^2\d kimg$/).waitFor();
    expect(await loss.locator('output').first().textContent()).not.toBe(last);
    await page.mouse.move(0, 0);
    await loss.getByRole('img').focus();
    await page.keyboard.press('ArrowRight');
    await loss.getByText('2 kimg', { exact: true }).waitFor();

    // Dragging zooms all charts; a double click shows all again.
    await page.mouse.move(over.x + over.width * 0.5, over.y + 50);
    await page.mouse.down();
    await page.mouse.move(over.x + over.width * 0.75, over.y + 50, { steps: 4 });
    await page.mouse.up();
    await page.getByRole('button', { name: /Show all \(now 5\d\.?\d* kimg to 7\d/ }).waitFor();
    await page.mouse.dblclick(over.x + 100, over.y + 50);
    await page.getByRole('button', { name: /Show all/ }).waitFor({ state: 'detached' });

    await page.getByLabel('Smoothing').fill('0');
    await page.getByLabel('log y').check();
    await page.getByLabel('Over').selectOption('time');
    expect(page.url()).toMatch(/runs=00000-icons,00001-icons-lr2&x=time&smooth=0&logy=1$/);
    expect(await drawnShare(page, 'Loss')).toBeGreaterThan(0.01);
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  it('shows sheets of two runs at the same time of their trainings', async () => {
    const page = await open('#/samples?runs=00000-icons,00002-photos');
    await page.getByText('sheet 5 of 5').waitFor();
    await page.getByText('sheet 2 of 2').waitFor();
    await page.getByRole('slider').focus();
    await page.keyboard.press('Home');
    expect(await page.getByText('0 kimg · sheet 1 of').count()).toBe(2);
    await page.keyboard.press('ArrowRight');
    expect(await page.getByText('20 kimg · sheet 2 of').count()).toBe(2);
    await page.getByLabel('Size').selectOption('4');
    await expect
      .poll(() =>
        page
          .locator('figure img')
          .first()
          .evaluate((img) => img.clientWidth),
      )
      .toBe(512);
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  it('shows the options that differ, and the commands', async () => {
    const page = await open('#/options?runs=00000-icons,00001-icons-lr2');
    // Until the second run has come, the first is compared with its preset.
    const rows = page.locator('.options tbody th');
    await expect.poll(() => rows.allTextContents()).toEqual(['--lr', '--seed']);
    await page.getByText(/train --data icons\.zip --preset tiny --lr 0\.002 --seed 2$/).waitFor();
    await page.getByLabel(/all \d+ options/).check();
    expect(await page.locator('.options tbody tr').count()).toBeGreaterThan(50);
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  it('works in the dark and on a telephone', async () => {
    for (const hash of [
      '',
      '#/curves?runs=00000-icons',
      '#/samples',
      '#/data',
      '#/options',
      '#/generate',
      '#/train',
    ]) {
      const page = await open(hash, { viewport: { width: 360, height: 740 }, colorScheme: 'dark' });
      await page.locator('main :is(.card, .block, .notice)').first().waitFor();
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
      expect(overflow, hash).toBe(0);
      expect(await violations(page), hash).toEqual([]);
      await page.context().close();
    }
  });

  it('follows a training while it runs, and draws from its snapshot', { timeout: 900_000 }, async () => {
    const own = join(folder, 'live');
    await mkdir(own);
    const data = await iconSet(folder);
    const live = await startStudio({
      folder: own,
      host: '127.0.0.1',
      port: 0,
      ...{ allowGenerate: true, allowTrain: true },
    });
    let training: ReturnType<typeof startCli> | null = null;
    try {
      const page = await open('', {}, live);
      await page.getByText('yet. Start one').waitFor();
      training = startCli([
        ...['train', '--data', data, '--out', own, ...tinyFlags],
        ...['--duration-kimg', '1000', '--tick-kimg', '0.2', '--max-images', '64'],
      ]);
      await page.getByRole('link', { name: '00000-icons' }).click();
      // The list of runs, with a state of its own, may still be there for a moment.
      await page.locator('.badge.state-running').first().waitFor();
      const shown = page.getByRole('region', { name: 'Loss', exact: true }).locator('output');
      const before = await shown.textContent();
      await expect.poll(() => shown.textContent(), { timeout: 60_000 }).not.toBe(before);
      await page.getByRole('link', { name: 'Samples' }).click();
      await page.getByText(/sheet \d+ of \d+/).waitFor();
      training.child.kill('SIGINT');
      expect((await training.end).code).toBe(130);
      await page.locator('.badge.state-interrupted').first().waitFor();

      await page.getByRole('link', { name: 'Train', exact: true }).click();
      await page.getByLabel('--data', { exact: true }).fill('/nowhere.zip');
      await page.getByLabel('--duration-kimg').fill('-1');
      await page.getByRole('button', { name: 'Start' }).click();
      await page.getByRole('alert').getByText('--duration-kimg: "-1" is not allowed').waitFor();
      expect(await violations(page)).toEqual([]);
      await page.getByRole('link', { name: 'Runs' }).click();
      await page.getByRole('button', { name: 'Resume 00000-icons' }).waitFor();
      expect(await violations(page)).toEqual([]);
      await page.getByRole('link', { name: '00000-icons' }).click();

      await page.getByRole('link', { name: 'Generate' }).click();
      await page.getByLabel('Seeds').fill('0-3');
      await page.getByRole('button', { name: 'Draw' }).click();
      await page.getByRole('img', { name: /Images of 00000-icons, seeds 0-3/ }).waitFor();
      expect(await violations(page)).toEqual([]);
      await page.getByLabel('Steps').fill('1000');
      await page.getByRole('button', { name: 'Draw' }).click();
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('cancelled').waitFor();
      await page.context().close();
    } finally {
      training?.child.kill('SIGKILL');
      await live.close();
    }
  });

  it('complains nowhere, and loads nothing from elsewhere', () => {
    expect(pages.faults).toEqual([]);
  });

  it.runIf(process.env.STUDIO_SCREENSHOT)('has its picture taken', async () => {
    const page = await open('#/curves?runs=00000-icons,00001-icons-lr2', {
      viewport: { width: 1240, height: 700 },
    });
    await page.getByRole('region', { name: 'Gradient norm' }).waitFor();
    await page.waitForTimeout(500);
    const png = sharp(await page.screenshot()).png({ palette: true, colours: 128 });
    await png.toFile(join(root, 'docs/images/studio.png'));
    await page.context().close();
  });
});
