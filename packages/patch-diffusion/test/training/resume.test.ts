/** Going on with a run: exactly, from older states, with a transfer, and not when it is done. */

import { once } from 'node:events';
import { copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { generate, train } from '../../src/index.js';
import { RunLock } from '../../src/run/run-lock.js';
import { listStates, newestSnapshot, newestState, readRunJson } from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { train as trainResolved } from '../../src/training/loop.js';
import { resolveRunOptions } from '../../src/training/resume.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

const start = (name: string, options: TrainOptionsInput = {}) =>
  train({ data, ...tinyOptions, durationKimg: 0.2, out: join(dir, name), ...options });

/** Trains and raises the signal at an event. */
async function interruptAt(
  when: (event: TrainEvent) => boolean,
  options: Parameters<typeof train>[0],
): Promise<{ result: Awaited<ReturnType<typeof train>>; events: TrainEvent[] }> {
  const controller = new AbortController();
  const events: TrainEvent[] = [];
  const result = await train(options, {
    signal: controller.signal,
    onEvent: (event) => {
      events.push(event);
      if (when(event)) controller.abort();
    },
  });
  return { result, events };
}

const atStep = (step: number) => (event: TrainEvent) => event.type === 'step' && event.step === step;

/** Interrupts a run, goes on, and compares with one that was left alone. */
async function expectExact(name: string, options: TrainOptionsInput): Promise<void> {
  const [whole, halves] = [join(dir, `${name}-whole`), join(dir, `${name}-halves`)];
  await start(`${name}-whole`, options);
  const { result } = await interruptAt(atStep(4), {
    ...{ data, ...tinyOptions, durationKimg: 0.2, out: halves, ...options },
  });
  expect(result.interrupted).toBe(true);
  await train({ resume: halves });
  expectSameState(await stateOf(halves), await stateOf(whole));
}

describe('a run that was interrupted', () => {
  it('goes on exactly with every kind of random draw', () =>
    expectExact('random', { schedule: 'stochastic', dropout: 0.1, augment: 0.2, xflip: true }));

  it('goes on exactly with Muon and spread draws', () =>
    expectExact('spread', { schedule: 'annealed', stratify: true, optimizer: 'muon' }));

  it('goes on exactly with noise that is chosen by the images', () =>
    expectExact('immiscible', {
      ...{ schedule: 'annealed', immiscible: 4, lrCooldown: 0.4, dropout: 0.1, xflip: true },
      ...{ augment: 0.2, augmentAt: 'image', stratify: true, lossScaling: 'dynamic' },
    }));

  it('goes on exactly with noise levels and patch sizes that follow the losses', () =>
    expectExact('levels', {
      // So many that each size has enough patches before the end.
      realP: 0.6,
      schedule: 'stratified',
      sigmaSampling: 'info',
      sizesByNoise: true,
      lossWeights: 'even',
      batch: 32,
      durationKimg: 1,
    }));

  it('goes on exactly after a transfer, which is not repeated', async () => {
    const { snapshot } = await start('source', { durationKimg: 0.05, seed: 3 });
    await expectExact('transfer', { transfer: snapshot });
    await expectExact('tuning', { transfer: snapshot, objective: 'ect', dropout: 0.1 });
  });

  it('may have begun from the newest snapshot of another run', async () => {
    const { runDir, snapshot } = await start('teacher', { durationKimg: 0.05, seed: 3 });
    const [byFolder, byFile] = [
      await start('by-folder', { transfer: runDir }),
      await start('by-file', { transfer: snapshot }),
    ];
    expectSameState(await stateOf(byFolder.runDir), await stateOf(byFile.runDir));
  });

  it('measures no held-out loss on its way out, and saves the state first', async () => {
    const out = join(dir, 'leaving');
    const { events } = await interruptAt(atStep(3), {
      ...{ data, ...tinyOptions, durationKimg: 1, out, holdout: 8 },
    });
    const ticks = events.filter((event) => event.type === 'tick');
    expect(ticks.map((tick) => tick.heldOutLoss !== undefined)).toEqual([true, false]);
    const saved = events.map(({ type }) => type).filter((type) => type === 'state' || type === 'snapshot');
    expect(saved).toEqual(['state', 'snapshot']);
  });

  it('in its last update is done, with all its files', async () => {
    const out = join(dir, 'last-moment');
    const isLast = (event: TrainEvent) => event.type === 'step' && event.nimg >= event.totalNimg;
    const { result } = await interruptAt(isLast, {
      ...{ data, ...tinyOptions, durationKimg: 0.1, out },
    });
    expect(result.interrupted).toBe(false);
    expect(await readRunJson(out)).toMatchObject({ status: 'done' });
    for (const folder of ['state', 'snapshots', 'samples'])
      expect(await readdir(join(out, folder)), folder).toHaveLength(1);
  });
});

describe('a run that is done', () => {
  it('is left as it is, until it shall last longer', async () => {
    const out = join(dir, 'done');
    await start('done');
    const before = await readFile(join(out, 'run.json'), 'utf8');
    for (const again of [
      { resume: out },
      { resume: (await newestState(out))! },
      { resume: 'newest', out, data },
    ]) {
      await expect(train(again)).rejects.toMatchObject({
        message: expect.stringMatching(
          /done is done \(0\.\d+ kimg\); give a larger --duration-kimg to continue/,
        ),
        exitCode: 2,
      });
    }
    expect(await readFile(join(out, 'run.json'), 'utf8')).toBe(before);
    expect(await readdir(out)).not.toContain('lock');
    const { nimg } = await train({ resume: out, durationKimg: 0.3 });
    expect(nimg).toBeGreaterThanOrEqual(300);
  });

  it('by a newer program is refused as such', async () => {
    const out = join(dir, 'newer');
    const { snapshot } = await start('newer', { durationKimg: 0.05 });
    for (const file of [(await newestState(out))!, snapshot!]) {
      const text = await readFile(file, 'latin1');
      await writeFile(file, text.replace('formatVersion\\":1', 'formatVersion\\":9'), 'latin1');
    }
    const newer = /was written by a newer version of patch-diffusion; update to read it/;
    await expect(train({ resume: out, durationKimg: 1 })).rejects.toThrow(newer);
    await expect(generate({ run: out, count: 1, out: join(dir, 'never') })).rejects.toThrow(newer);
  });

  it('but lacks files gets them', async () => {
    const out = join(dir, 'lacking');
    await start('lacking');
    await rm((await newestSnapshot(out))!);
    const before = await stateOf(out);
    // As after a process that was killed between its last state and its last snapshot.
    const json = await readFile(join(out, 'run.json'), 'utf8');
    await writeFile(join(out, 'run.json'), json.replace('"status": "done"', '"status": "running"'));
    await train({ resume: out });
    expect(await newestSnapshot(out)).not.toBeNull();
    expectSameState(await stateOf(out), before);
    expect(await readRunJson(out)).toMatchObject({ status: 'done' });
  });
});

describe('a run folder', () => {
  it('that is in use says so before anything is opened', async () => {
    const out = join(dir, 'used');
    await start('used', { durationKimg: 0.05 });
    const lock = await RunLock.acquire(out);
    await expect(train({ resume: out, data: join(dir, 'nowhere') })).rejects.toThrow('already in use');
    await lock.release();
    // The lock is free again after a failure.
    for (let i = 0; i < 2; i++)
      await expect(train({ resume: out, data: join(dir, 'nowhere'), durationKimg: 1 })).rejects.toThrow(
        'nowhere',
      );
  });

  it('is gone on with from what its last process left, even just now', async () => {
    const out = join(dir, 'race');
    await start('race', { durationKimg: 0.05 });
    const options = await resolveRunOptions({ call: { resume: out, durationKimg: 0.2 } });
    const { nimg } = await train({ resume: out, durationKimg: 0.1 });
    const events: TrainEvent[] = [];
    await trainResolved(options, { onEvent: (event) => events.push(event) });
    expect(events.find((event) => event.type === 'start')).toMatchObject({ nimg });
  });
});

it('a transfer that is being fetched stops at once', async () => {
  const controller = new AbortController();
  const server = createServer(() => controller.abort()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const transfer = `http://127.0.0.1:${port}/network.safetensors`;
  const options = { data, ...tinyOptions, out: join(dir, 'fetching'), transfer };
  await expect(train(options, { signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' });
  expect(await readdir(dir)).not.toContain('fetching');
  server.closeAllConnections();
  server.close();
});

describe('an older state', () => {
  it('sets aside what came after it, and keeps what is written from then on', async () => {
    const out = join(dir, 'branch');
    // Files are numbered in thousands of images: small patches, so that these are quickly done.
    const patchSizes = [{ sidePx: 4, probability: 1 }];
    const everyTick = { tickKimg: 1, snapshotTicks: 1, stateTicks: 1, patchSizes, batch: 64 };
    await start('branch', { ...everyTick, durationKimg: 1.5 });
    const old = join(dir, 'old.safetensors');
    const first = (await newestState(out))!;
    await copyFile(first, old);
    await train({ resume: out, durationKimg: 4 });
    const abandoned = (await newestState(out))!;
    const back = join(out, 'state', 'training-state-000001.safetensors');
    await copyFile(old, back);

    const events: TrainEvent[] = [];
    await train({ resume: back, durationKimg: 2.5 }, { onEvent: (event) => events.push(event) });
    expect(events.find((event) => event.type === 'warning')).toMatchObject({ code: 'SUPERSEDED' });
    expect(await readdir(join(out, 'superseded', '00000', 'state'))).toContain(abandoned.split('/').at(-1));
    const kept = await listStates(out);
    expect(kept.at(-1)).toMatch(/000002-560\.safetensors$/);
    expect((await newestSnapshot(out))!).toMatch(/000002-560\.safetensors$/);
    const kimg = (await readFile(join(out, 'stats.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)['Progress/kimg'].mean as number);
    expect(kimg).toEqual([...kimg].sort((a, b) => a - b));
    expect(kimg.at(-1)).toBeLessThan(3);
  });
});
