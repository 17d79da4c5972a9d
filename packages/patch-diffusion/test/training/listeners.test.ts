/** A listener that throws ends the run as failed, with an error of its own. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { liveTensors } from '@patch-diffusion/torch';
import { beforeAll, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { readRunJson, type TrainEvent, train } from '../../src/index.js';
import { imageFolder } from '../helpers/images.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

it.each<TrainEvent['type']>(['start', 'step', 'tick', 'state', 'snapshot', 'sampling', 'samples'])(
  'on %s',
  async (type) => {
    const out = join(dir, type);
    const options = { ...tinyOptions, data, out, durationKimg: 0.1, tickKimg: 0.03, batch: 4 };
    await collectGarbage();
    const before = liveTensors();
    const onEvent = (event: TrainEvent) => {
      if (event.type === type) throw new TypeError('no such chart');
    };
    const run = train({ ...options, snapshotTicks: 1, stateTicks: 1, sampleTicks: 1 }, { onEvent });
    await expect(run).rejects.toMatchObject({
      name: 'ListenerError',
      message: `the listener of training events failed on '${type}': no such chart`,
      cause: expect.any(TypeError),
    });
    expect(await readRunJson(out)).toMatchObject({
      status: 'failed',
      error: expect.stringContaining(`failed on '${type}'`),
    });
    expect(existsSync(join(out, 'lock'))).toBe(false);
    expect(liveTensors()).toBe(before);
  },
);

it('before the run folder exists', async () => {
  const images = await imageFolder(join(dir, 'images'), {
    'a.png': [16, 16, 'red'],
    'b.png': [16, 16, 'blue'],
  });
  await writeFile(join(images, 'c.png'), 'no image');
  const out = join(dir, 'warning');
  const onEvent = (event: TrainEvent) => {
    if (event.type === 'warning') throw new Error('closed');
  };
  const options = { ...tinyOptions, data: images, out, durationKimg: 0.1, batch: 2 };
  await expect(train(options, { onEvent })).rejects.toThrow(
    /listener of training events failed on 'warning'/,
  );
  expect(existsSync(out)).toBe(false);
});
