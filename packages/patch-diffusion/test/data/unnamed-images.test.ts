/** Images whose names do not say what they are. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSource } from '../../src/data/source.js';
import { flat } from '../helpers/images.js';
import { tiffBytes } from '../helpers/tiff.js';
import { zipBytes } from '../helpers/zip.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-unnamed-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

async function files(): Promise<Record<string, Buffer>> {
  const image = (format: 'jpeg' | 'png' | 'webp' | 'gif' | 'avif') =>
    flat(8, 8, 'red').toFormat(format).toBuffer();
  return {
    'a/jpeg': await image('jpeg'),
    'a/png.': await image('png'),
    'a/gif': await image('gif'),
    'a.b/webp': await image('webp'),
    avif: await image('avif'),
    tiff: tiffBytes({ photometric: 2, values: [1, 2, 3] }),
    bigtiff: tiffBytes({ photometric: 2, values: [1, 2, 3], isBig: true, bigEndian: true }),
    'photo.JPG_large': await image('jpeg'),
    'photo.jpg:orig': await image('jpeg'),
    'wrong.png': await image('jpeg'),
    // Listed.
    'broken.JPG_large': Buffer.from('no image'),
    'photo.jpg_original': await image('jpeg'),
    'photo.jpg~': await image('jpeg'),
    'photo.THM': await image('jpeg'),
    // Neither.
    LICENSE: Buffer.from('Permission is granted'),
    empty: Buffer.alloc(0),
    'notes.txt': await image('jpeg'),
    'Thumbs.xyz': Buffer.from('x'),
    '.hidden': await image('jpeg'),
  };
}

const used = [
  'a.b/webp',
  'a/gif',
  'a/jpeg',
  'a/png.',
  'avif',
  'bigtiff',
  'photo.JPG_large',
  'photo.jpg:orig',
  'tiff',
  'wrong.png',
];
const skipped = [
  ['broken.JPG_large', 'not an image of a known format'],
  ['photo.THM', 'an image inside, but .thm is not known for images; convert or rename it'],
  ['photo.jpg_original', 'a backup copy by its name; rename it to use it'],
  ['photo.jpg~', 'a backup copy by its name; rename it to use it'],
];

describe('files without a known extension are used by their content, or listed', () => {
  it('in a folder', async () => {
    const folder = join(scratch, 'folder');
    for (const [name, bytes] of Object.entries(await files())) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), bytes);
    }
    const source = await openSource(folder);
    expect(source.names).toEqual(used);
    expect(source.skipped.map(({ file, reason }) => [file, reason])).toEqual(skipped);
    for (const i of used.keys()) expect((await source.decode(i)).channels).toBe(3);
  });

  it.each([true, false])('in a zip, compressed: %s', async (compress) => {
    const path = join(scratch, `${compress}.zip`);
    await writeFile(path, zipBytes(await files(), compress));
    const source = await openSource(path);
    expect(source.names).toEqual(used);
    expect(source.skipped.map(({ file, reason }) => [file, reason]).sort()).toEqual(skipped);
    for (const i of used.keys()) expect((await source.decode(i)).channels).toBe(3);
    await source.close();
  });
});
