/** Trainings that are started, stopped and resumed from the page. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRunJson } from '../../src/run/runs.js';
import type { FormField } from '../../src/studio/api.js';
import { type Studio, startStudio } from '../../src/studio/studio.js';
import { makeRun } from '../helpers/studio-runs.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';

let runs: string;
let data: string;
let studio: Studio;
let cookie: string;

beforeAll(async () => {
  const folder = await temporaryFolder();
  data = await iconSet(folder);
  runs = await temporaryFolder();
  studio = await startStudio({ folder: runs, host: '127.0.0.1', port: 0, allowTrain: true });
  cookie = (await fetch(studio.url, { redirect: 'manual' })).headers.get('set-cookie')!.split(';')[0];
});
afterAll(() => studio.close());

async function post(path: string, body: unknown = {}, headers: Record<string, string> = {}) {
  const answer = await fetch(`http://127.0.0.1:${studio.port}${path}`, {
    method: 'POST',
    headers: { cookie, 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  return { status: answer.status, error: text === '' ? null : (JSON.parse(text).error as string) };
}

/** The server notices runs while somebody listens. */
async function known(id: string): Promise<void> {
  const events = await fetch(`http://127.0.0.1:${studio.port}/api/events`, { headers: { cookie } });
  let text = '';
  for await (const part of events.body!) {
    text += Buffer.from(part).toString();
    if (text.includes(id)) return;
  }
}

const statusOf = async (id: string) => (await readRunJson(join(runs, id)))?.status;

describe('trainings from the page', () => {
  it('start with the options of the form, stop with their state saved, and go on from there', async () => {
    const options = {
      ...{
        data,
        preset: 'tiny',
        resolution: '16',
        modelChannels: '8',
        channelMult: '1,2',
        attnResolutions: '8',
      },
      ...{
        batch: '8',
        samples: '4',
        sampleSteps: '3',
        seed: '7',
        threads: '1',
        desc: 'page',
        durationKimg: '500',
      },
    };
    expect(await post('/api/trainings', options)).toEqual({ status: 204, error: null });
    const id = '00000-icons-page';
    const wait = { timeout: 60_000, interval: 200 };
    await expect.poll(() => statusOf(id), wait).toBe('running');
    expect((await readRunJson(join(runs, id)))?.config).toMatchObject({
      modelChannels: 8,
      channelMult: [1, 2],
    });
    await known(id);
    await expect.poll(async () => (await post(`/api/runs/${id}/stop`)).status, wait).toBe(204);
    await expect.poll(() => statusOf(id), wait).toBe('interrupted');
    const { nimg } = (await readRunJson(join(runs, id)))!;

    expect((await post(`/api/runs/${id}/resume`)).status).toBe(204);
    await expect.poll(() => statusOf(id), wait).toBe('running');
    await post(`/api/runs/${id}/stop`);
    await expect.poll(() => statusOf(id), wait).toBe('interrupted');
    expect((await readRunJson(join(runs, id)))!.nimg).toBeGreaterThanOrEqual(nimg);
    expect((await readdir(runs)).filter((name) => name.endsWith('.log'))).toHaveLength(2);
  });

  it('are refused in words: wrong values, options that the studio decides, no such run', async () => {
    expect((await post('/api/trainings', { data, lr: 'fast' })).error).toMatch(
      /^--lr: "fast" is not allowed/,
    );
    expect((await post('/api/trainings', { preset: 'tiny' })).error).toMatch(/^no images given/);
    for (const key of ['out', 'resume', 'nosubdir', 'config', 'toString']) {
      const { status, error } = await post('/api/trainings', JSON.parse(`{"data": "a", "${key}": "x"}`));
      expect({ status, error }, key).toEqual({ status: 422, error: `${key} cannot be set here` });
    }
    expect((await post('/api/trainings', { data: 1 })).status).toBe(400);
    expect((await post('/api/runs/00099-none/stop')).status).toBe(404);
  });

  it('are not started inside a run that is shown alone', async () => {
    const folder = await makeRun(runs, '00008-alone');
    const alone = await startStudio({ folder, host: '127.0.0.1', port: 0, allowTrain: true });
    const link = await fetch(alone.url, { redirect: 'manual' });
    const answer = await fetch(`http://127.0.0.1:${alone.port}/api/trainings`, {
      method: 'POST',
      headers: {
        cookie: link.headers.get('set-cookie')!.split(';')[0],
        'Content-Type': 'application/json',
      },
      body: JSON.stringify({ data, preset: 'tiny' }),
    });
    expect((await answer.json()).error).toMatch(/00008-alone is one run; to start others/);
    await alone.close();
  });

  it('are stopped only where their process is known to be theirs', async () => {
    // It says running, with the number of this very process, but nobody holds its lock.
    await makeRun(runs, '00007-other', { json: { status: 'running' } });
    await known('00007-other');
    const { status, error } = await post('/api/runs/00007-other/stop');
    expect({ status, error }).toEqual({
      status: 422,
      error: 'no process of this machine trains 00007-other',
    });
  });

  it('are started by nothing but the studio’s own page', async () => {
    const body = { data, preset: 'tiny' };
    expect((await post('/api/trainings', body, { origin: 'https://evil.example' })).status).toBe(403);
    expect((await post('/api/trainings', body, { 'sec-fetch-site': 'same-site' })).status).toBe(403);
    expect((await post('/api/trainings', body, { cookie: '' })).status).toBe(401);
    const other = await startStudio({ folder: runs, host: '127.0.0.1', port: 0, allowGenerate: true });
    const link = await fetch(other.url, { redirect: 'manual' });
    const own = link.headers.get('set-cookie')!.split(';')[0];
    const answer = await fetch(`http://127.0.0.1:${other.port}/api/trainings`, {
      method: 'POST',
      headers: { cookie: own, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    expect(answer.status).toBe(403);
    await other.close();
  });

  it('have a form with every option, its range and its choices', async () => {
    const answer = await fetch(`http://127.0.0.1:${studio.port}/api/train-form`, { headers: { cookie } });
    const fields = (await answer.json()) as FormField[];
    const find = (key: string) => fields.find((field) => field.key === key);
    expect(fields.length).toBeGreaterThan(50);
    expect(find('out')).toBeUndefined();
    expect(find('preset')?.choices).toContain('celeba-64');
    expect(find('schedule')?.choices).toContain('stratified');
    expect(find('xflip')?.choices).toEqual(['true', 'false']);
    expect(find('realP')).toMatchObject({
      name: 'real-p',
      allowed: 'a number from 0 to 1',
      choices: null,
      placeholder: '0.5',
    });
  });
});
