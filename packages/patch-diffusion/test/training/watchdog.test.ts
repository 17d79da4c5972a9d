/** What the watchdog reports, and what ends a run. */
import { expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { InfiniteSampler } from '../../src/data/sampler.js';
import type { DataSet } from '../../src/data/types.js';
import type { TrainEvent } from '../../src/training/events.js';
import { nextUpdate } from '../../src/training/next-update.js';
import { makeGenerators } from '../../src/training/random-streams.js';
import { Watchdog } from '../../src/training/watchdog.js';

const dataset = { nameOf: (index: number) => `photo-${index}.jpg` };
const patch = { height: 8, width: 8 };

function watch() {
  const warnings: string[] = [];
  const watchdog = new Watchdog(dataset, (event) => event.type === 'warning' && warnings.push(event.message));
  let step = 0;
  const update = (losses: readonly number[], { isBad = false, side = 8 } = {}) => {
    const size = { height: side, width: side };
    return watchdog.look({
      step: ++step,
      isBad,
      microBatches: losses.map((_, i) => ({ indices: [10 * i, 10 * i + 1] })),
      result: {
        gradNorm: isBad ? Number.NaN : 1,
        losses: losses.map((loss) => ({
          patch: size,
          count: 2,
          elements: 10,
          sum: 10 * loss,
          sumOfSquares: 0,
        })),
      },
    });
  };
  return { update, warnings };
}

it('a spike is reported with its update and images, and is not a new normal', () => {
  const { update, warnings } = watch();
  const random = new Mt19937(1);
  for (let i = 0; i < 200; i++) expect(update([0.3 + random.randomDouble()])).toBeNull();
  expect(warnings).toEqual([]);
  expect(update([0.5, 30])).toBeNull();
  expect(warnings).toEqual([
    expect.stringMatching(
      /^step 201: the loss of patches of 8 px is 3\d times the usual one \(images photo-10\.jpg, photo-11\.jpg\); if/,
    ),
  ]);
  // Large patches have a loss of their own, and none is usual yet.
  for (let i = 0; i < 40; i++) expect(update([30], { side: 16 })).toBeNull();
  expect(warnings).toHaveLength(1);
  let end: string | null = null;
  let spikes = 0;
  while (end === null && spikes < 100) {
    end = update([50]);
    spikes++;
  }
  expect(end).toMatch(/above 10 times the usual one in 25 of the last 50 updates/);
  expect(spikes).toBe(25);
});

it('spikes now and then end nothing', () => {
  const { update } = watch();
  for (let i = 0; i < 1000; i++) expect(update([i % 4 === 3 && i > 100 ? 40 : 0.5])).toBeNull();
});

it('a gradient that is not finite is reported with the images of the loss that is not', () => {
  const { update, warnings } = watch();
  update([1, Number.NaN], { isBad: true });
  expect(warnings[0]).toMatch(/^step 1: the gradient has NaN.*\(images photo-10\.jpg, photo-11\.jpg\)/);
  for (let i = 0; i < 18; i++) expect(update([1], { isBad: true })).toBeNull();
  expect(update([1])).toBeNull();
  for (let i = 0; i < 19; i++) expect(update([1], { isBad: true })).toBeNull();
  expect(update([1], { isBad: true })).toBe('the gradient was not finite for 20 updates in a row');
});

it('a rank that all others wait for is reported, again only much later', () => {
  const warnings: string[] = [];
  const watchdog = new Watchdog(dataset, (event) => event.type === 'warning' && warnings.push(event.message));
  const look = (step: number, ...ms: number[]) =>
    watchdog.lookAtRanks(step, ms, (rank) => `rank ${rank} (on node${rank})`);
  // One slow update is no lag.
  for (let step = 1; step <= 300; step++) look(step, 100, step === 20 ? 900 : 110, 150, 100);
  expect(warnings).toEqual([]);
  for (let step = 301; step <= 600; step++) look(step, 100, 110, 500, 100);
  expect(warnings).toEqual([
    expect.stringMatching(
      /^step 3\d\d: rank 2 \(on node2\) takes 2\d\d ms for an update and the others 1\d\d ms, which all wait for it/,
    ),
  ]);
  for (let step = 601; step <= 2600; step++) look(step, 100, 110, 500, 100);
  expect(warnings).toHaveLength(2);
});

it('images that do not come are reported, and end the run', async () => {
  const events: TrainEvent[] = [];
  const wait = (ready: DataSet['ready'], stopMs: number) =>
    nextUpdate(
      {
        dataset: { ...dataset, ready } as DataSet,
        order: new InfiniteSampler({ length: 8, seed: 0, mode: 'window' }),
        patchRandom: new Mt19937(0),
        schedule: { name: 'stochastic', sizes: [{ ...patch, probability: 1, multiplier: 1 }] } as never,
        ...{ batch: 4, batchGpu: 4, device: 'cpu', generators: makeGenerators('cpu', false) },
        patience: { warnMs: 20, stopMs },
      },
      { progress: 0, step: 0 },
      (event) => events.push(event),
    );
  await expect(wait(() => new Promise(() => {}), 100)).rejects.toMatchObject({
    code: 'DATA_STALLED',
    message: expect.stringMatching(/^images photo-\d\.jpg, .* did not come within 0 s; .*--resume/),
  });
  expect(events).toMatchObject([{ type: 'warning', code: 'DATA_STALLED' }]);
  const { microBatches } = await wait(async () => {}, 100);
  expect(microBatches).toHaveLength(1);
  expect(events).toHaveLength(1);
});
