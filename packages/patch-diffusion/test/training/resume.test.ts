/** Going on with a run: exactly, from older states, with a transfer, and not when it is done. */
import { copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { train } from '../../src/index.js';
import type { TrainEvent } from '../../src/training/events.js';
import { listStates, newestSnapshot, newestState, readRunJson } from '../../src/training/runs.js';
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

  it('goes on exactly after a transfer, which is not repeated', async () => {
    const { snapshot } = await start('source', { durationKimg: 0.05, seed: 3 });
    await expectExact('transfer', { transfer: snapshot });
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
          /done is done \(0\.\d+ kimg\); give a larger --duration-kimg to go on/,
        ),
        exitCode: 2,
      });
    }
    expect(await readFile(join(out, 'run.json'), 'utf8')).toBe(before);
    expect(await readdir(out)).not.toContain('lock');
    const { nimg } = await train({ resume: out, durationKimg: 0.3 });
    expect(nimg).toBeGreaterThanOrEqual(300);
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
    expect(kept.at(-1)).toMatch(/000002\.safetensors$/);
    expect((await newestSnapshot(out))!).toMatch(/000002\.safetensors$/);
    const kimg = (await readFile(join(out, 'stats.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)['Progress/kimg'].mean as number);
    expect(kimg).toEqual([...kimg].sort((a, b) => a - b));
    expect(kimg.at(-1)).toBeLessThan(3);
  });
});
