/** When a run draws sample sheets. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { train } from '../../src/index.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

it.each([
  ['none, also at the end, without an interval', { sampleTicks: null }, 0],
  ['a last one with an interval in ticks', { sampleTicks: 100 }, 1],
  ['a last one with an interval in seconds', { sampleTicks: null, sampleSec: 1000 }, 1],
])('%s', async (name, options, count) => {
  const out = join(dir, name);
  const events: string[] = [];
  const { snapshot } = await train(
    { ...tinyOptions, data, out, durationKimg: 0.04, ...options },
    { onEvent: ({ type }) => events.push(type) },
  );
  expect(await readdir(join(out, 'samples'))).toHaveLength(count);
  expect(events.filter((type) => type === 'samples')).toHaveLength(count);
  expect(snapshot).not.toBeNull();
});
