/** Which snapshots stay, and saving by the clock. */
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { train } from '../../src/index.js';
import { listSnapshots, listStates } from '../../src/run/runs.js';
import { readStats, type Stat } from '../../src/run/stats.js';
import type { TrainEvent } from '../../src/training/events.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

const everyTick = { tickKimg: 0.05, snapshotTicks: 1, stateTicks: null, sampleTicks: null };

async function snapshotsOf(options: TrainOptionsInput): Promise<string[]> {
  const files: string[] = [];
  const onEvent = (event: TrainEvent) => event.type === 'snapshot' && files.push(event.file);
  await train({ data, ...tinyOptions, ...everyTick, durationKimg: 0.8, ...options }, { onEvent });
  return files;
}

it('the newest, the best, and one to guide by are kept', async () => {
  const out = join(dir, 'kept');
  // A rate at which the average gets worse again: the best one is neither among the first nor the newest.
  const options = { keep: 2, keepBest: true, holdout: 8, emaHalflifeKimg: 0, lr: 0.02, lrRampupKimg: 0.4 };
  const written = await snapshotsOf({ out, ...options });
  const losses = (await readStats(out)).slice(1).map((line) => (line['Loss/held_out'] as Stat).mean);
  expect(losses).toHaveLength(written.length);
  const best = written[losses.indexOf(Math.min(...losses))];
  const nimg = (file: string) => Number(/(\d{3})\.safetensors$/.exec(file)?.[1]);
  const guide = written.find((file) => nimg(file) >= 100);
  const expected = new Set([guide, best, ...written.slice(-2)]);
  expect(written.length).toBeGreaterThan(expected.size + 3);
  expect(await listSnapshots(out)).toEqual(written.filter((file) => expected.has(file)));
});

it('a best one cannot be told without held-out images, nor kept where all are', async () => {
  const given = { data, ...tinyOptions, out: join(dir, 'never') };
  await expect(train({ ...given, keepBest: true, holdout: 8 })).rejects.toThrow(/--keep-best needs --keep N/);
  await expect(train({ ...given, keepBest: true, keep: 1 })).rejects.toThrow(/--keep-best needs --holdout N/);
});

it('by the clock, a state and a snapshot are written between ticks, from which a run goes on exactly', async () => {
  const [whole, parts] = [join(dir, 'whole'), join(dir, 'parts')];
  const options = { durationKimg: 0.3, tickKimg: 0.2, sampleTicks: null };
  await train({ data, ...tinyOptions, ...options, out: whole });
  const states: string[] = [];
  const onEvent = (event: TrainEvent) => {
    if (event.type === 'state') states.push(event.file);
    // As if killed: the listener fails after a state that no tick wrote.
    if (event.type === 'step' && states.length === 3) throw new Error('killed');
  };
  const first = train({ data, ...tinyOptions, ...options, snapshotSec: 1e-6, out: parts }, { onEvent });
  await expect(first).rejects.toThrow('killed');
  expect(states).toHaveLength(3);
  expect(await listStates(parts)).toEqual(states.slice(-2));
  expect(await listSnapshots(parts)).toHaveLength(3);
  await train({ resume: parts, snapshotSec: null });
  expectSameState(await stateOf(parts), await stateOf(whole));
});
