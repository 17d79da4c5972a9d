import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, it } from 'vitest';
import { infoText } from '../../src/cli/info-text.js';
import { datasetInfo } from '../../src/data/dataset-info.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

it('lists every file that cannot be used, one per line', async () => {
  const folder = await temporaryFolder();
  const image = { create: { width: 4, height: 4, channels: 3, background: 'red' } } as const;
  await sharp(image).toFile(join(folder, 'good.png'));
  const bad = Array.from({ length: 25 }, (_, i) => `bad-${String(i).padStart(2, '0')}.png`);
  for (const name of bad) await writeFile(join(folder, name), 'no image');
  const text = infoText({ kind: 'data', data: await datasetInfo(folder, { verify: true }) });
  const reason = 'not an image (or of an unknown format)';
  expect(text.split('\n').slice(-26)).toEqual([
    expect.stringMatching(/^Not usable +25 files:$/),
    ...bad.map((name) => `  ${name}: ${reason}`),
  ]);
});
