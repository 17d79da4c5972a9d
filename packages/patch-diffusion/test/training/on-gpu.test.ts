/**
 * How a run uses a GPU, tried on a CPU: images on the device, passes as graphs (here, work that is simply done again), results
 * one update late. None of it may change what is trained.
 */
import { join } from 'node:path';
import type { DeviceGraph } from '@patch-diffusion/torch';
import { beforeAll, beforeEach, expect, it, vi } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { DeviceImages } from '../../src/data/device-images.js';
import { train } from '../../src/index.js';
import type { TrainEvent } from '../../src/training/events.js';
import { PassGraphs } from '../../src/training/pass-graphs.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

const gpu = vi.hoisted(() => ({ capture: null as ((work: () => void) => DeviceGraph) | null }));

vi.mock('../../src/training/on-gpu.js', async (original) => {
  const real = await original<typeof import('../../src/training/on-gpu.js')>();
  const mocked: typeof real = {
    imagesFor: (device, images) => (gpu.capture ? new DeviceImages(images, device) : images),
    readsLater: () => gpu.capture !== null,
    passGraphs: (options, { denoiser }, _device, { emit }) =>
      gpu.capture &&
      new PassGraphs({
        pool: { capture: gpu.capture },
        parameters: denoiser.parameters(),
        isRepeatable: options.dropout === 0,
        onGiveUp: (message) => emit({ type: 'warning', code: 'NO_CUDA_GRAPHS', message }),
      }),
  };
  return mocked;
});

let dir: string;
let data: string;
let runs = 0;
beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});
beforeEach(() => {
  gpu.capture = null;
});

const isOfGraphs = (event: TrainEvent): event is TrainEvent & { type: 'warning' } =>
  event.type === 'warning' && event.code === 'NO_CUDA_GRAPHS';

async function run(options: TrainOptionsInput = {}) {
  const events: TrainEvent[] = [];
  const { runDir } = await train(
    { data, ...tinyOptions, durationKimg: 0.4, tickKimg: 0.1, out: join(dir, `run-${runs++}`), ...options },
    { onEvent: (event) => void events.push(event) },
  );
  const losses = events.flatMap((event) => (event.type === 'step' ? [[event.step, event.loss]] : []));
  const warnings = events.flatMap((event) => (isOfGraphs(event) ? [event.message] : []));
  return { runDir, state: await stateOf(runDir), events, losses, warnings };
}

/** Counts graphs and how often they are replayed. */
function countingPool() {
  const count = { captured: 0, replayed: 0 };
  const capture = (work: () => void): DeviceGraph => {
    count.captured++;
    return {
      replay: () => {
        count.replayed++;
        work();
      },
    };
  };
  return { count, capture };
}

it.each<TrainOptionsInput>([
  { schedule: 'stratified', optimizer: 'adam', dropout: 0 },
  { schedule: 'annealed', xflip: true, holdout: 8, cond: false },
  { schedule: 'stochastic', augment: 0.2, augmentAt: 'image', immiscible: 4, batchGpu: 4 },
])('trains the same with %o', async (options) => {
  const plain = await run(options);
  const { count, capture } = countingPool();
  gpu.capture = capture;
  const onGpu = await run(options);
  expectSameState(onGpu.state, plain.state);
  expect(onGpu.losses).toEqual(plain.losses);
  expect(onGpu.warnings).toEqual([]);
  // One graph for each size that came often enough; then nothing but replays.
  expect(count.captured).toBeGreaterThanOrEqual(2);
  expect(count.replayed).toBeGreaterThan(2 * count.captured);
});

it('tells of each update before the tick that it belongs to', async () => {
  gpu.capture = countingPool().capture;
  const { events } = await run();
  let step = 0;
  for (const event of events) {
    if (event.type === 'step') expect(event.step).toBe(++step);
    if (event.type === 'tick') expect(event.step).toBe(step);
  }
  expect(events.filter(({ type }) => type === 'tick').length).toBeGreaterThan(2);
});

it('goes on from where it was stopped as a run that never was', async () => {
  const plain = await run();
  gpu.capture = countingPool().capture;
  const abort = new AbortController();
  const out = join(dir, 'stopped');
  await train(
    { data, ...tinyOptions, durationKimg: 0.4, tickKimg: 0.1, out },
    { signal: abort.signal, onEvent: (e) => e.type === 'step' && e.step === 13 && abort.abort() },
  );
  await train({ resume: out });
  expectSameState(await stateOf(out), plain.state);
});

it.each<[string, (work: () => void) => DeviceGraph, RegExp]>([
  [
    'cannot be captured',
    () => {
      throw new Error('out of memory');
    },
    /^out of memory$/,
  ],
  ['does nothing', () => ({ replay() {} }), /^its loss was 0, not \d/],
  [
    'adds its gradient twice',
    (work) => ({ replay: () => [work, work].forEach((pass) => void pass()) }),
    /^its gradient differed by 1\.0/,
  ],
])('trains without graphs, and says so once, where one %s', async (_, capture, reason) => {
  const options: TrainOptionsInput = { dropout: 0 };
  const plain = await run(options);
  gpu.capture = capture;
  const { state, warnings } = await run(options);
  expectSameState(state, plain.state);
  expect(warnings).toEqual([expect.stringMatching(reason)]);
});
