/** What `--dry-run` says of a run's length and cost, for each schedule. */
import { expect, it } from 'vitest';
import { patchesText } from '../../src/cli/patches-text.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import { estimateRun } from '../../src/training/estimate.js';
import { patchSchedule, patchSizes } from '../../src/training/model.js';

const shape = { height: 64, width: 64, channels: 3, labelDim: 0, latents: null, std: null };

function plan(call: object) {
  const options = resolveTrainOptions({ call: { data: 'x', batchGpu: null, ...call } });
  const schedule = patchSchedule(options, patchSizes(options, shape));
  return { ...estimateRun(schedule, shape, options), text: patchesText(schedule) };
}

it.each(['stochastic', 'stratified'])('%s: the same sizes all the time', (schedule) => {
  const { updates, imagesPerUpdate, pixelShare, text } = plan({ schedule, batch: 10, durationKimg: 19 });
  expect(updates).toBe(1000);
  expect(imagesPerUpdate).toBeCloseTo(19, 9);
  // 0.2 of the updates at 4 · 1/16, 0.3 at 2 · 1/4, 0.5 at 1.
  expect(pixelShare).toBeCloseTo(0.7, 9);
  expect(text).toBe('16×16 (20 %, 4× the batch), 32×32 (30 %, 2× the batch), 64×64 (50 %)');
});

it('progressive: each size has its part of the run', () => {
  const { updates, imagesPerUpdate, pixelShare, text } = plan({
    ...{ schedule: 'progressive', batch: 10, durationKimg: 10 },
  });
  // 2000 images of 16 px at 40 an update, 3000 of 32 px at 20, 5000 of 64 px at 10.
  expect(updates).toBe(50 + 150 + 500);
  expect(imagesPerUpdate).toBeCloseTo(10_000 / 700, 9);
  expect(pixelShare).toBeCloseTo((50 * 0.25 + 150 * 0.5 + 500) / 700, 9);
  expect(text).toBe(
    '16×16 (20 % of the run, 4× the batch), then 32×32 (30 % of the run, 2× the batch), then 64×64 (50 % of the run)',
  );
});

it('annealed: from --real-p-from to --real-p-to, whatever --real-p is', () => {
  const annealed = { schedule: 'annealed', realP: 0.9, batch: 1000, durationKimg: 10_000 };
  const { updates, pixelShare, text } = plan({ ...annealed, realPFrom: 0, realPTo: 1 });
  // At share s an update has 2.8 − 1.8 s times the batch, and 0.4 + 0.6 s of its pixels on whole images.
  const integral = Math.log(2.8) / 1.8;
  expect(updates / 10_000).toBeCloseTo(integral, 3);
  expect(pixelShare).toBeCloseTo((-1 / 3 + (4 / 3) * integral) / integral, 4);
  expect(text).toBe('16×16 (40 → 0 %, 4× the batch), 32×32 (60 → 0 %, 2× the batch), 64×64 (0 → 100 %)');
});
