/** Small files that would become gigabytes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openImages } from '../../src/index.js';
import { flat } from '../helpers/images.js';
import { zipBytes } from '../helpers/zip.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-limits-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

/** How much larger this process has become at most while `work` ran, in MiB, as far as can be seen from inside. */
async function growth(work: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss();
  await work();
  return (process.memoryUsage.rss() - before) / 2 ** 20;
}

it('dataset.json of millions of objects in a small zip', async () => {
  const json = Buffer.from(`{"labels": [${'{},'.repeat(20_000_000)}{}]}`);
  const file = join(scratch, 'objects.zip');
  await writeFile(
    file,
    zipBytes({ 'a.png': await flat(4, 4, 'red').png().toBuffer(), 'dataset.json': json }),
  );
  expect(
    await growth(() =>
      expect(openImages(file)).rejects.toThrow(`dataset.json of ${file} is far too large for 1 images`),
    ),
  ).toBeLessThan(500);
});

it('a member that says it is larger than any file may be', async () => {
  const zip = zipBytes({ 'a.png': Buffer.alloc(10), 'dataset.json': Buffer.from('{}') });
  const directory = zip.indexOf('PK\x01\x02', zip.indexOf('PK\x01\x02') + 1);
  zip.writeUInt32LE(2 ** 28 + 1, directory + 24);
  const file = join(scratch, 'member.zip');
  await writeFile(file, zip);
  await expect(openImages(file)).rejects.toThrow('larger than 256 MiB');
});

const header = (...numbers: number[]) => {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [i, number] of numbers.entries()) bytes.writeUInt32BE(number, 4 * i);
  return bytes;
};

it.each([
  ['claims it', header(0x803, 3_000_000, 28, 28), 'would take 2.2 GiB of memory'],
  ['does not', Buffer.concat([header(0x803, 2, 28, 28), Buffer.alloc(2 ** 28)]), 'download it again'],
  ['is something else', Buffer.alloc(2 ** 28), 'is not an idx3-ubyte image file'],
])('an idx file that inflates to hundreds of megabytes and %s', async (_, bytes, message) => {
  const file = join(scratch, 'x-images-idx3-ubyte.gz');
  await writeFile(file, gzipSync(bytes, { level: 1 }));
  expect(await growth(() => expect(openImages(file)).rejects.toThrow(message))).toBeLessThan(100);
});
