/** What a run says of images that it cannot use. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { programName } from '../../src/common/program-name.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import { prepare } from '../../src/index.js';
import { openTrainingData } from '../../src/training/data.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-training-data-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

it('warns of damaged images once each, and of many in one line', async () => {
  const [count, damaged] = [160, 15];
  const data = join(scratch, 'set.zip');
  for (let i = 0; i < count; i++) {
    const create = { width: 8, height: 8, channels: 3 as const, background: 'red' };
    await sharp({ create }).toFile(join(scratch, `${i}.png`));
  }
  await prepare({ source: scratch, out: data });
  const bytes = await readFile(data);
  const name = (i: number) => `00000/img${String(i).padStart(8, '0')}.png`;
  for (let i = 1; i <= damaged; i++) bytes[bytes.indexOf(name(i)) + 150] ^= 0xff;
  await writeFile(data, bytes);
  const messages: string[] = [];
  const set = await openTrainingData(resolveTrainOptions({ call: { data } }), {
    emit: (event) => event.type === 'warning' && messages.push(event.message),
  });
  expect(messages).toEqual([]);
  await set.ready(Array.from({ length: count }, (_, i) => i));
  await set.ready([0, 1]);
  expect(messages).toHaveLength(11);
  expect(messages[0]).toMatch(/img000000\d\d\.png \(damaged .*\) cannot be used; the next image takes its/);
  expect(messages[10]).toBe(
    `more images cannot be used; \`${programName()} info ${data} --verify\` lists all`,
  );
  expect(set.report.skipped).toHaveLength(damaged);
  await set.close();
});
