/** The planned end of a run, and what follows it: the learning rate's cooldown. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TrainEvent, type TrainOptionsInput, train } from '../../src/index.js';
import { learningRate } from '../../src/method.js';
import { planTime, RunClock } from '../../src/training/clock.js';
import type { StepEvent, TickEvent } from '../../src/training/events.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

describe('the planned end', () => {
  const before = { limitSec: 600, endSec: 600 };

  it.each([
    ['of a new run', 600, null, 0, 600],
    ['stays where an interrupted run goes on', 600, before, 250, 600],
    ['moves with a new limit', 100, before, 250, 350],
    ['moves when the time was up', 600, before, 600.5, 1200.5],
    ['of states without a plan', 600, null, 250, 850],
  ])('%s', (_, limit, plan, done, end) => {
    expect(planTime(limit, plan, done)).toEqual({ limitSec: limit, endSec: end });
  });

  it('is none without a limit', () => expect(planTime(null, before, 250)).toBeNull());

  it('is that of the nearest limit', () => {
    const before = { earlierSec: 60, earlierCpuSec: 90, plan: null, cpuPlan: null };
    const share = (maxSec: number | null, maxCpuSec: number | null) =>
      new RunClock({ maxSec, maxCpuSec }, before).share();
    expect(share(null, null)).toBe(0);
    expect(share(60, null)).toBeCloseTo(0.5, 3);
    expect(share(null, 30)).toBeCloseTo(0.75, 3);
    expect(share(60, 30)).toBeCloseTo(0.75, 3);
  });
});

describe('the learning rate', () => {
  const rate = (progress: number, lrCooldown?: number) =>
    learningRate({ lr: 1, lrRampupKimg: 10, lrCooldown }, 20_000, progress);

  it('falls linearly to 0 over the last share of the run', () => {
    const wanted = [1, 1, 1, 0.75, 0.5, 0].map((value) => expect.closeTo(value, 9));
    expect([0, 0.5, 0.8, 0.85, 0.9, 1].map((progress) => rate(progress, 0.2))).toEqual(wanted);
    expect(rate(0.25, 1)).toBe(0.75);
  });

  it('stays without a cooldown', () => expect(rate(1)).toBe(1));
});

describe('a run with a cooldown', () => {
  let dir: string;
  let data: string;
  beforeAll(async () => {
    dir = await temporaryFolder();
    data = await iconSet(dir);
  });

  async function run(name: string, options: TrainOptionsInput, stopAtStep?: number) {
    const steps: StepEvent[] = [];
    const ticks: TickEvent[] = [];
    const stop = new AbortController();
    const onEvent = (event: TrainEvent) => {
      if (event.type === 'tick') ticks.push(event);
      if (event.type !== 'step') return;
      steps.push(event);
      if (event.step === stopAtStep) stop.abort();
    };
    const base = { ...tinyOptions, data, out: join(dir, name), lrRampupKimg: 0, sampleTicks: null };
    await train({ ...base, lrCooldown: 0.5, ...options }, { onEvent, signal: stop.signal });
    return { steps, ticks, rates: steps.map(({ lr }) => lr / 1e-3) };
  }

  it('limited by images cools down exactly, also when it was interrupted', async () => {
    const length = { durationKimg: 0.2, schedule: 'stochastic' as const };
    const { steps, rates } = await run('whole', length);
    expect(rates[0]).toBe(1);
    const last = steps.at(-2)!.nimg / 200;
    expect(rates.at(-1)).toBeCloseTo(Math.min(1, (1 - last) / 0.5), 6);
    await run('halves', length, steps.length - 3);
    await run('halves', { ...length, resume: join(dir, 'halves') });
    expectSameState(await stateOf(join(dir, 'halves')), await stateOf(join(dir, 'whole')));
  });

  it('limited by processor time cools down, and warms up with a new limit', async () => {
    const { steps, ticks, rates } = await run('timed', { durationKimg: 1e6, maxCpuSec: 0.8 });
    expect(rates[0]).toBeGreaterThan(0.9);
    expect(rates.at(-1)).toBeLessThan(0.5);
    const { trainCpuSec, plannedCpuSec, plannedSec } = steps.at(-1)!;
    expect({ plannedCpuSec, plannedSec }).toEqual({ plannedCpuSec: 0.8, plannedSec: null });
    expect(trainCpuSec).toBeGreaterThanOrEqual(0.8);
    expect(ticks.at(-1)!.trainCpuSec).toBe(trainCpuSec);

    // Planned end: the time so far and the new limit.
    const more = await run('timed', { durationKimg: 1e6, maxCpuSec: 1, resume: join(dir, 'timed') });
    expect(more.steps[0].plannedCpuSec).toBeCloseTo(trainCpuSec + 1, 6);
    expect(more.rates[0]).toBe(1);
    expect(more.rates.at(-1)).toBeLessThan(0.5);
  });
});
