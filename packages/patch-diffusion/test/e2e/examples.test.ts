/** The examples run as their first lines say. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { expect, it } from 'vitest';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';

const example = fileURLToPath(new URL('../../../../examples/train-and-sample.mjs', import.meta.url));
const run = (...args: string[]) => spawnSync(process.execPath, [example, ...args], { encoding: 'utf8' });

it('train-and-sample.mjs trains on images and draws a sheet', async () => {
  const dir = await temporaryFolder();
  const out = join(dir, 'results');
  const { status, stdout, stderr } = run(await iconSet(dir), '0.02', out);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^0\.\d kimg, loss \d\.\d{4}\n[\s\S]*\/results\/sheet\.png\n$/);
  const { width, height } = await sharp(join(out, 'sheet.png')).metadata();
  expect(width).toBeGreaterThan(4 * 128); // 4 × 4 images, enlarged, with labels
  expect(height).toBeGreaterThan(4 * 128);

  expect(run(join(dir, 'nowhere'))).toMatchObject({ status: 1, stderr: expect.stringMatching(/nowhere/) });
});
