/** Schedules that move over the run follow the time limit where it ends the run before its images are done. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type TrainEvent, train } from '../../src/index.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

/** Patch sides of the updates of a run. */
async function patchSides(options: Parameters<typeof train>[0], stopAfter = Number.POSITIVE_INFINITY) {
  const sides: number[] = [];
  const stop = new AbortController();
  const onEvent = (event: TrainEvent) => {
    if (event.type !== 'step') return;
    sides.push(event.patchSizePx);
    // Once the schedule has left its first size.
    if (sides.length >= stopAfter && event.patchSizePx > sides[0]) stop.abort();
  };
  await train(options, { onEvent, signal: stop.signal });
  return sides;
}

it('progressive: reaches whole images, and resumes where it was', async () => {
  const dir = await temporaryFolder();
  const options = {
    ...{ ...tinyOptions, data: await iconSet(dir), schedule: 'progressive' as const },
    ...{ durationKimg: 10_000, maxSec: 2, samples: 1, sampleSteps: 1 },
  };
  const whole = await patchSides({ ...options, out: join(dir, 'whole') });
  expect(whole[0]).toBe(4);
  expect(whole.at(-1)).toBe(16);

  const out = join(dir, 'interrupted');
  const first = await patchSides({ ...options, out }, 1);
  const rest = await patchSides({ ...options, out, resume: out });
  expect(rest[0]).toBe(first.at(-1));
  expect(rest.at(-1)).toBe(16);
});
