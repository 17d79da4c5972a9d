/** The studio's server by plain HTTP: what it tells, and whom it refuses. */

import { once } from 'node:events';
import { appendFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type RequestOptions, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { RunsEvent } from '../../src/studio/api.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { makeRun, statsLine } from '../helpers/studio-runs.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
}

/** The path as it is: fetch would resolve `..` and set Host. */
async function ask(
  port: number,
  path: string,
  options: RequestOptions = {},
  host = '127.0.0.1',
): Promise<Answer> {
  const sent = request({ host, port, path, agent: false, ...options });
  sent.end();
  const [answer] = await once(sent, 'response');
  let text = '';
  for await (const part of answer) text += part;
  return { status: answer.statusCode, headers: answer.headers, text };
}

let runs: string;
let studio: Studio;
const get = (path: string, headers: Record<string, string> = {}) => ask(studio.port, path, { headers });

beforeAll(async () => {
  runs = join(await temporaryFolder(), 'runs');
  await makeRun(runs, '00000-icons', { json: { nimg: 100_000 } });
  await makeRun(runs, '00001-icons', {
    lines: 30,
    config: { data: 'photos.zip', lr: 2e-3 },
    json: { status: 'failed', error: 'the disk is full' },
  });
  studio = await startStudio({ folder: runs, host: '127.0.0.1', port: 0 });
});
afterAll(() => studio.close());

/** Follows the event stream; `next` waits for a message that fits. */
async function follow(port: number) {
  const controller = new AbortController();
  const response = await fetch(`http://127.0.0.1:${port}/api/events`, { signal: controller.signal });
  const decoder = new TextDecoder();
  const reader = response.body!.getReader();
  let text = '';
  const next = async (fits: (event: RunsEvent) => boolean): Promise<RunsEvent> => {
    for (;;) {
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const data = /^data: (.+)$/m.exec(text.slice(0, end))?.[1];
        text = text.slice(end + 2);
        const event = data ? (JSON.parse(data) as RunsEvent) : null;
        if (event && fits(event)) return event;
      }
      text += decoder.decode((await reader.read()).value);
    }
  };
  return { next, stop: () => controller.abort() };
}

describe('what it tells', () => {
  it('the runs and how they are', async () => {
    const events = await follow(studio.port);
    const { changed } = await events.next(() => true);
    events.stop();
    expect(changed.map(({ id, state, problem }) => ({ id, state, problem }))).toEqual([
      { id: '00000-icons', state: 'done', problem: null },
      { id: '00001-icons', state: 'failed', problem: 'the disk is full' },
    ]);
    expect(changed[0]).toMatchObject({ kimg: 100, totalKimg: 100, preset: 'tiny', sheets: 5, etaSec: null });
    expect(changed[0].heldOutLoss).toBeGreaterThan(0);
  });

  it('curves, and which lines were asked for wrongly', async () => {
    const { columns } = JSON.parse((await get('/api/runs/00000-icons/series?lines=20')).text);
    expect(columns['Loss/loss']).toHaveLength(20);
    const wrong = await get('/api/runs/00000-icons/series?lines=many');
    expect(wrong.status).toBe(400);
    expect(JSON.parse(wrong.text).error).toBe('lines=many must be a number from 10 to 5000');
    expect((await get('/api/runs/00000-icons/series?from=1&x=miles')).status).toBe(400);
  });

  it('figures of evaluations, in the order of the training', async () => {
    const line = (nimg: number, at: string, metrics: unknown) =>
      `${JSON.stringify({ format: 1, kind: 'run', nimg, step: nimg / 100, at, metrics })}\n`;
    await writeFile(
      join(runs, '00001-icons/evaluations.jsonl'),
      line(4000, '2026-11-29T18:20:00Z', { memorised: { value: 0.1, low: 0, high: 1 } }) +
        'no JSON\n{"metrics": 1}\n' +
        line(2000, '2026-11-29T18:30:00Z', { fd: { value: 40 }, memorised: null }) +
        '{"nimg": 6000',
    );
    const { evaluations } = JSON.parse((await get('/api/runs/00001-icons/series')).text);
    expect(evaluations).toEqual({
      'Progress/kimg': [2, 4],
      'Progress/step': [20, 40],
      timestamp: ['2026-11-29T18:30:00Z', '2026-11-29T18:20:00Z'].map((at) => Date.parse(at) / 1000),
      'Evaluation/fd': [40, null],
      'Evaluation/memorised': [null, 0.1],
    });
  });

  it('options, sheets and the command of a run', async () => {
    const detail = JSON.parse((await get('/api/runs/00001-icons')).text);
    expect(detail.command).toMatch(/ train --data photos\.zip --preset tiny --lr 0\.002 --seed 1$/);
    expect(detail.sheets.map(({ kimg }: { kimg: number }) => kimg)).toEqual([0, 20, 40]);
    const sheet = await get('/api/runs/00001-icons/samples/fakes-000020.png');
    expect(sheet.headers['content-type']).toBe('image/png');
    const again = await get('/api/runs/00001-icons/samples/fakes-000020.png', {
      'if-none-match': String(sheet.headers.etag),
    });
    expect(again.status).toBe(304);
  });

  it('a page that loads nothing from elsewhere', async () => {
    const page = await get('/');
    expect(page.headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self'/);
    const loaded = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address]) => address);
    expect(loaded.length).toBeGreaterThan(2);
    for (const address of loaded) {
      expect(address).toMatch(/^\/[^/]/);
      expect((await get(address)).status).toBe(200);
    }
  });
});

describe('changes while it looks', () => {
  let folder: string;
  let live: Studio;
  beforeAll(async () => {
    folder = join(await temporaryFolder(), 'runs');
    await makeRun(folder, '00000-a', { lines: 3, json: { status: 'running', nimg: 0 } });
    live = await startStudio({ folder, host: '127.0.0.1', port: 0 });
  });
  afterAll(() => live.close());

  it('are told: lines, new and damaged runs, a folder that vanishes and comes back', async () => {
    const events = await follow(live.port);
    const first = await events.next(() => true);
    expect(first.changed[0]).toMatchObject({ state: 'running', kimg: 6 });
    expect(first.changed[0].etaSec).toBeCloseTo((94 * 1000) / first.changed[0].imagesPerSec!, 0);

    await appendFile(join(folder, '00000-a/stats.jsonl'), statsLine(3));
    expect((await events.next(() => true)).changed).toMatchObject([{ id: '00000-a', kimg: 8 }]);

    await makeRun(folder, '00001-b', { lines: 0, json: { status: 'running', pid: 2 ** 22 + 1 } });
    // It may be seen before all of it is written.
    const isThere = ({ changed }: RunsEvent) =>
      changed.some(({ id, state }) => id === '00001-b' && state === 'killed');
    expect((await events.next(isThere)).changed[0].problem).toMatch(/its process is gone/);

    await writeFile(join(folder, '00001-b/run.json'), '{"format": 1');
    const damaged = await events.next(({ changed }) => changed[0]?.state === 'damaged');
    expect(damaged.changed[0].problem).toMatch(/run\.json is damaged \(it is not JSON\)/);

    await rename(folder, `${folder}-away`);
    const gone = await events.next(({ problem }) => problem !== null);
    expect(gone).toMatchObject({ changed: [], removed: [] });
    expect(gone.problem).toMatch(
      /cannot read .*it does not exist; check the path; the runs below are as last seen/,
    );
    expect((await ask(live.port, '/api/runs/00000-a/series')).status).toBe(200);

    await rename(`${folder}-away`, folder);
    await events.next(({ problem }) => problem === null);
    await rm(join(folder, '00001-b'), { recursive: true });
    expect((await events.next(() => true)).removed).toEqual(['00001-b']);
    events.stop();
  });
});

describe('a run of its own, and an empty folder', () => {
  const started: Studio[] = [];
  afterEach(() => Promise.all(started.splice(0).map((one) => one.close())));
  const start = async (folder: string) => {
    const one = await startStudio({ folder, host: '127.0.0.1', port: 0 });
    started.push(one);
    const events = await follow(one.port);
    const all = await events.next(() => true);
    events.stop();
    return { port: one.port, all };
  };

  it('shows the run', async () => {
    const { port, all } = await start(join(runs, '00001-icons'));
    expect(all.changed.map(({ id }) => id)).toEqual(['00001-icons']);
    expect((await ask(port, '/api/runs/00001-icons/series')).status).toBe(200);
  });

  it('shows none, and files that are no runs are none', async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, '00000-empty'));
    await writeFile(join(folder, '00001-file'), '');
    expect((await start(folder)).all).toEqual({ changed: [], removed: [], problem: null });
  });
});

describe('ports and addresses', () => {
  it('takes the next free port', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const other = await startStudio({ folder: runs, host: '127.0.0.1', port });
    expect(other.port).toBeGreaterThan(port);
    expect((await ask(other.port, '/api/info')).status).toBe(200);
    await other.close();
    taken.close();
  });

  it('says in words which address it cannot have', async () => {
    const start = startStudio({ folder: runs, host: '203.0.113.7', port: 0 });
    await expect(start).rejects.toMatchObject({
      name: 'UserError',
      message: expect.stringMatching(
        /cannot listen on 203\.0\.113\.7.*this machine has no such address; use --host/,
      ),
    });
  });
});

describe('it refuses', () => {
  it.each([
    '/../../package.json',
    '/assets/../../../package.json',
    '/%2e%2e/%2e%2e/package.json',
    '/assets/..%2f..%2f..%2fpackage.json',
    '//etc/passwd',
    '/api/runs/..',
    '/api/runs/..%2f..%2fetc/series',
    '/api/runs/%2e%2e%2f%2e%2e/samples/passwd',
    '/api/runs/00000-icons/samples/..%2frun.json',
    '/api/runs/00000-icons/samples/%2e%2e%2f%2e%2e%2f00001-icons%2frun.json',
    '/api/runs/00000-icons/samples/%00',
    '/api/runs/00000-icons/samples/run.json',
    '/api/runs/__proto__/series',
    '/api/runs/constructor',
  ])('a way out of the folder: %s', async (path) => {
    const { status, text } = await get(path);
    expect(status).toBe(404);
    expect(text).not.toMatch(/root:|"name"|"config"/);
  });

  it('names that were bent to this address', async () => {
    for (const host of [
      'evil.example',
      `evil.example:${studio.port}`,
      'localhost',
      `localhost:${studio.port + 1}`,
    ]) {
      const { status, text } = await get('/api/info', { host });
      expect(status, host).toBe(403);
      expect(text).not.toContain(runs);
    }
    expect((await get('/api/info', { host: `LOCALHOST:${studio.port}` })).status).toBe(200);
  });

  it('requests of other sites', async () => {
    const host = `127.0.0.1:${studio.port}`;
    for (const origin of [
      'https://evil.example',
      'null',
      `https://${host}`,
      `http://localhost:${studio.port}`,
    ]) {
      expect((await get('/api/info', { host, origin })).status, origin).toBe(403);
    }
    expect((await get('/api/info', { host, origin: `http://${host}` })).status).toBe(200);
    expect(
      (await get('/api/info', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).status,
    ).toBe(403);
    // Another server of this machine is another site.
    expect((await get('/api/info', { 'sec-fetch-site': 'same-site' })).status).toBe(403);
    expect((await get('/', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).status).toBe(
      200,
    );
  });

  it('to change anything', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      expect((await ask(studio.port, '/api/runs/00000-icons', { method })).status, method).toBe(404);
    }
  });

  it('to follow a link in the samples folder out of it', async () => {
    const away = join(runs, '..', 'secret.txt');
    await writeFile(away, 'a secret');
    await symlink(away, join(runs, '00000-icons/samples/secret.txt'));
    expect((await get('/api/runs/00000-icons/samples/secret.txt')).status).toBe(404);
  });
});

describe('on another address', () => {
  let open: Studio;
  beforeAll(async () => {
    open = await startStudio({ folder: runs, host: '0.0.0.0', port: 0 });
  });
  afterAll(() => open.close());

  it('asks for the token of the link, once', async () => {
    const { pathname, search, searchParams } = new URL(open.url);
    expect(searchParams.get('token')).toMatch(/^[\w-]{32}$/);
    for (const path of ['/', '/api/info', '/?token=', '/?token=wrong', `/api/info${search}`]) {
      const { status, text } = await ask(open.port, path);
      expect(status, path).toBe(401);
      expect(text).not.toContain(runs);
    }
    const { status, headers } = await ask(open.port, pathname + search);
    expect({ status, location: headers.location }).toEqual({ status: 302, location: '/' });
    const cookie = String(headers['set-cookie']);
    expect(cookie).toMatch(/HttpOnly/);
    expect(cookie).toMatch(/SameSite=Strict/);
    const [value] = cookie.split(';');
    expect((await ask(open.port, '/api/info', { headers: { cookie: value } })).status).toBe(200);
    expect((await ask(open.port, '/api/info', { headers: { cookie: `${value}x` } })).status).toBe(401);
  });

  it('answers to the addresses of this machine only', async () => {
    const asked = (host: string) => ask(open.port, '/', { headers: { host: `${host}:${open.port}` } });
    expect((await asked('evil.example')).status).toBe(403);
    expect((await asked('127.0.0.1')).status).toBe(401);
  });
});
