/** Drawing from a snapshot on the server, with a real network. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasChromium } from '../../../browser/test/helpers/chromium.js';
import { train } from '../../src/index.js';
import type { Drawing } from '../../src/studio/api.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { StudioPages, violations } from '../helpers/studio-pages.js';
import { iconSet, runCli, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let folder: string;
let run: string;
let snapshot: string;
let studio: Studio;
let cookie: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  const options = { ...tinyOptions, nosubdir: false, data: await iconSet(folder), out: join(folder, 'runs') };
  const { runDir } = await train({
    ...options,
    cond: true,
    powerEma: true,
    durationKimg: 0.1,
    tickKimg: 0.1,
  });
  [run] = await readdir(join(folder, 'runs'));
  [snapshot] = await readdir(join(runDir, 'snapshots'));
  studio = await startStudio({
    folder: join(folder, 'runs'),
    host: '127.0.0.1',
    port: 0,
    allowGenerate: true,
  });
  const link = await fetch(studio.url, { redirect: 'manual' });
  cookie = link.headers.get('set-cookie')!.split(';')[0];
});
afterAll(() => studio.close());

function ask(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const json: Record<string, string> = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return fetch(`http://127.0.0.1:${studio.port}${path}`, {
    method,
    headers: { cookie, ...json, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** Follows the event stream until the newest drawing is as wanted. @returns its states on the way */
async function until(isWanted: (drawing: Drawing) => boolean): Promise<Drawing[]> {
  const controller = new AbortController();
  const response = await fetch(`http://127.0.0.1:${studio.port}/api/events`, {
    headers: { cookie },
    signal: controller.signal,
  });
  const seen: Drawing[] = [];
  let text = '';
  const decoder = new TextDecoder();
  const reader = response.body!.getReader();
  while (!seen.some(isWanted)) {
    text += decoder.decode((await reader.read()).value, { stream: true });
    const parts = text.split('\n\n');
    text = parts.pop()!;
    for (const part of parts) {
      const data = /^event: drawings\ndata: (.+)$/m.exec(part)?.[1];
      if (data) seen.push((JSON.parse(data) as Drawing[])[0]);
    }
  }
  controller.abort();
  return seen;
}

describe('drawing', () => {
  it('gives the sheet that the command line gives, and tells its progress', async () => {
    const about = await (await ask('GET', `/api/runs/${run}/snapshots/${snapshot}`)).json();
    expect(about.classes).toHaveLength(7);
    const options = { seeds: '3-5', steps: '4', class: '2', sampler: '' };
    const answer = await ask('POST', '/api/drawings', { run, snapshot, options });
    expect(answer.status).toBe(201);
    const { id } = await answer.json();
    const states = await until(({ state }) => state !== 'running');
    expect(states.at(-1)).toMatchObject({ id, state: 'done', problem: null });
    const sheet = Buffer.from(await (await ask('GET', `/api/drawings/${id}/sheet.png`)).arrayBuffer());

    const file = join(folder, 'sheet.png');
    const network = join(folder, 'runs', run, 'snapshots', snapshot);
    await runCli([
      'generate',
      '--network',
      network,
      '--seeds',
      '3-5',
      '--steps',
      '4',
      '--class',
      '2',
      '--grid',
      file,
    ]);
    const pixels = (of: Buffer | string) => sharp(of).raw().toBuffer();
    expect(Buffer.compare(await pixels(sheet), await pixels(file))).toBe(0);
  });

  it('says why it failed', async () => {
    await ask('POST', '/api/drawings', { run, snapshot, options: { seeds: '0', class: 'unicorn' } });
    const states = await until(({ state }) => state !== 'running');
    expect(states.at(-1)).toMatchObject({ state: 'failed', problem: expect.stringMatching(/unicorn/) });
  });

  it('can be cancelled, and only one is drawn at a time', async () => {
    const request = { run, snapshot, options: { seeds: '0-255', steps: '1000' } };
    const { id } = await (await ask('POST', '/api/drawings', request)).json();
    const second = await ask('POST', '/api/drawings', request);
    expect(second.status).toBe(422);
    expect((await second.json()).error).toMatch(/a sheet is being drawn/);
    await until(({ share }) => share > 0);
    expect((await ask('DELETE', `/api/drawings/${id}`)).status).toBe(204);
    expect((await until(() => true)).at(-1)).toMatchObject({ id, state: 'cancelled' });
    expect((await ask('GET', `/api/drawings/${id}/sheet.png`)).status).toBe(404);
    expect((await ask('DELETE', `/api/drawings/${id}`)).status).toBe(404);
  });

  it('takes no other flags, files, or a number of images that would fill the disk', async () => {
    const tries: [unknown, number][] = [
      [{ run, snapshot, options: { out: '/tmp/elsewhere' } }, 422],
      [{ run, snapshot, options: { grid: '/tmp/elsewhere.png' } }, 422],
      [{ run, snapshot, options: { seeds: '0-999999' } }, 422],
      [{ run, snapshot: '../../../etc/passwd', options: {} }, 404],
      [{ run: '..', snapshot, options: {} }, 404],
      [{ run, snapshot, options: { seeds: 7 } }, 400],
      [{ run, snapshot }, 400],
      ['nonsense', 400],
    ];
    for (const [body, status] of tries) {
      expect((await ask('POST', '/api/drawings', body)).status, JSON.stringify(body)).toBe(status);
    }
    // A value is a value, whatever it looks like.
    await ask('POST', '/api/drawings', {
      run,
      snapshot,
      options: { seeds: '0', steps: '--out=/tmp/elsewhere' },
    });
    const states = await until(({ state }) => state !== 'running');
    expect(states.at(-1)?.problem).toMatch(/^--steps: .* is not allowed; use an integer/);
  });

  it('is started by nothing but the studio’s own page', async () => {
    const body = { run, snapshot, options: { seeds: '0' } };
    const origin = `http://127.0.0.1:${studio.port}`;
    const refused: [Record<string, string>, number][] = [
      [{ origin: 'https://evil.example' }, 403],
      [{ 'sec-fetch-site': 'cross-site' }, 403],
      [{ 'sec-fetch-site': 'same-site' }, 403],
      [{ origin, 'Content-Type': 'text/plain' }, 415],
      [{ origin, cookie: '' }, 401],
    ];
    for (const [headers, status] of refused) {
      expect((await ask('POST', '/api/drawings', body, headers)).status, JSON.stringify(headers)).toBe(
        status,
      );
    }
  });

  it('is not done unless it is allowed', async () => {
    const other = await startStudio({ folder: join(folder, 'runs'), host: '127.0.0.1', port: 0 });
    const answer = await fetch(`${other.url}api/drawings`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ run, snapshot, options: { seeds: '0' } }),
    });
    expect(answer.status).toBe(403);
    expect((await answer.json()).error).toMatch(/start the studio with --allow-generate/);
    await other.close();
  });
});

describe.skipIf(!hasChromium)('the slider for the length of the average', () => {
  it('draws with an average that is made afterwards', { timeout: 900_000 }, async () => {
    const pages = await StudioPages.launch();
    try {
      const page = await pages.open(studio, `#/generate?runs=${run}`);
      const slider = page.getByLabel('EMA length');
      await slider.focus();
      for (let press = 0; press < 4; press++) await page.keyboard.press('ArrowRight');
      expect(await slider.inputValue()).toBe('0.02');
      await page.getByText('0.02, at the newest snapshot').waitFor();
      await page.getByLabel('Seeds').fill('0-1');
      await page.getByRole('button', { name: 'Draw' }).click();
      const sheet = page.getByRole('img', { name: /0\.02/ });
      await sheet.waitFor();
      const drawn = await sheet.evaluate((image) => (image as HTMLImageElement).naturalWidth);
      expect(drawn).toBeGreaterThan(16);
      expect(await violations(page)).toEqual([]);
      expect(pages.faults).toEqual([]);
    } finally {
      await pages.close();
    }
  });
});
