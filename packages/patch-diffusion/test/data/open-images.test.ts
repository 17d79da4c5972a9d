import { spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { datasetInfo } from '../../src/data/dataset-info.js';
import { openImages } from '../../src/data/open-images.js';
import { holdOut } from '../../src/data/views.js';
import { prepare } from '../../src/index.js';
import { flat, type ImageSpec, imageFolder, range, whole } from '../helpers/images.js';
import { available, dataDir } from '../helpers/shared.js';
import { tiffBytes } from '../helpers/tiff.js';
import { zipBytes } from '../helpers/zip.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-images-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

const folderOf = (name: string, files: Record<string, ImageSpec>) => imageFolder(join(scratch, name), files);

async function zipOf(path: string, files: Record<string, Buffer>, compress: boolean): Promise<string> {
  await writeFile(path, zipBytes(files, compress));
  return path;
}

describe('openImages on folders', () => {
  it('sorts by name, takes any case of extension, and labels by top folders', async () => {
    const folder = await folderOf('labelled', {
      'b/2.PNG': [4, 4, 'lime'],
      'a/deep/1.Jpg': [4, 4, 'white'],
      'b/10.webp': [4, 4, 'black'],
      'b/😀.png': [4, 4, 'red'],
      'b/ﬀ.png': [4, 4, 'blue'],
    });
    await writeFile(join(folder, 'notes.txt'), 'no image');
    await writeFile(join(folder, '.hidden.png'), 'no image');
    const set = await openImages(folder);
    expect([set.length, set.channels, set.height, set.width, set.labelDim]).toEqual([5, 3, 4, 4, 2]);
    expect(set.classNames).toEqual(['a', 'b']);
    expect([...set.labels([0, 1])]).toEqual([1, 0, 0, 1]);
    expect(set.report).toEqual({ used: 5, skipped: [] });
    const pixels = await whole(set);
    const colours = range(5).map((i) => [0, 1, 2].map((c) => pixels[i * 48 + c * 16]));
    // a/deep/1, b/10, b/2, then Python's order: U+FB00 before U+1F600.
    expect(colours.slice(2)).toEqual([
      [0, 255, 0],
      [0, 0, 255],
      [255, 0, 0],
    ]);
    expect((await openImages(folder, { labels: false })).labelDim).toBe(0);
  });

  it('labels a folder with loose files only when asked', async () => {
    const folder = await folderOf('loose', { '1.png': [4, 4, 'red'], 'x/2.png': [4, 4, 'red'] });
    expect((await openImages(folder)).labelDim).toBe(0);
    expect((await openImages(folder, { labels: true })).classNames).toEqual(['', 'x']);
  });

  it('refuses mixed sizes without a resolution, and resizes with one', async () => {
    const folder = await folderOf('mixed', { 'x.png': [6, 4, 'red'], 'y.png': [8, 8, 'blue'] });
    await expect(openImages(folder)).rejects.toThrow(/x\.png is 6 × 4, y\.png is 8 × 8.*--resolution 64/);
    const set = await openImages(folder, { resolution: { width: 6, height: 3 } });
    expect([set.height, set.width, set.length]).toEqual([3, 6, 2]);
    expect((await whole(set)).length).toBe(2 * 3 * 3 * 6);
  });

  it('chooses and converts channels', async () => {
    const folder = join(scratch, 'grey');
    await mkdir(folder);
    await sharp(Buffer.from([0, 50, 100, 200]), { raw: { width: 2, height: 2, channels: 1 } })
      .toColourspace('b-w')
      .toFile(join(folder, '1.png'));
    const grey = await openImages(folder);
    expect([grey.channels, [...(await whole(grey))]]).toEqual([1, [0, 50, 100, 200]]);
    const colour = await openImages(folder, { channels: 3 });
    expect([...(await whole(colour))]).toEqual([0, 50, 100, 200, 0, 50, 100, 200, 0, 50, 100, 200]);
    await flat(2, 2, 'red').toFile(join(folder, '2.png'));
    expect((await openImages(folder)).channels).toBe(3);
    const forced = await openImages(folder, { channels: 1 });
    expect([...(await whole(forced, [1]))]).toEqual([76, 76, 76, 76]); // ITU-R 601 luma of red
  });

  it('applies EXIF orientation, lays transparency over white, takes 16 bits as 8', async () => {
    const folder = join(scratch, 'unusual');
    await mkdir(folder);
    const raw = { width: 2, height: 1, channels: 1 as const };
    await sharp(Buffer.from([0, 255]), { raw })
      .toColourspace('b-w')
      .withMetadata({ orientation: 6 })
      .png()
      .toFile(join(folder, 'turned.png'));
    const turned = await openImages(folder);
    expect([turned.height, turned.width, [...(await whole(turned))]]).toEqual([
      2,
      1,
      [0, 255, 0, 255, 0, 255],
    ]);
    await rm(join(folder, 'turned.png'));
    const rgba = Buffer.from([255, 0, 0, 255, 0, 0, 0, 0]);
    await sharp(rgba, { raw: { width: 2, height: 1, channels: 4 } })
      .png()
      .toFile(join(folder, 'alpha.png'));
    expect([...(await whole(await openImages(folder)))]).toEqual([255, 255, 0, 255, 0, 255]);
    await rm(join(folder, 'alpha.png'));
    const deep = Uint16Array.from([0, 0x5800, 0x58ff, 0xffff]);
    await sharp(deep, { raw: { width: 2, height: 2, channels: 1 } })
      .toColourspace('grey16')
      .png()
      .toFile(join(folder, 'deep.png'));
    const set = await openImages(folder);
    expect([set.channels, [...(await whole(set))]]).toEqual([1, [0, 0x58, 0x58, 255]]);
  });

  it.each([
    [8, 1, null],
    [16, 1, null],
    [32, 1, '32-bit'],
    [16, 2, 'signed 16-bit'],
    [32, 3, '32-bit'],
  ])('TIFF samples of %i bits, format %i: %s', async (bits, format, refused) => {
    const folder = join(scratch, `tiff-${bits}-${format}`);
    await mkdir(folder);
    // A quarter as bright as can be.
    const value = format === 3 ? 0.25 : 0x40 * 2 ** (bits - 8);
    const tiff = tiffBytes({ photometric: 1, bits, sampleFormat: format, values: [value] });
    await writeFile(join(folder, 'x.tif'), tiff);
    if (refused === null) {
      const set = await openImages(folder);
      expect([set.channels, [...(await whole(set))]]).toEqual([1, [0x40]]);
    } else {
      const reason = `x.tif: has ${refused} samples; convert it to 8 or 16 bits`;
      await expect(openImages(folder)).rejects.toThrow(reason);
      await expect(prepare({ source: folder, out: `${folder}.zip`, resolution: 8 })).rejects.toThrow(reason);
    }
  });

  it('converts CMYK, palettes and animations to the colours that they show', async () => {
    const folder = join(scratch, 'colours');
    await mkdir(folder);
    const frames = [flat(4, 4, 'blue'), flat(4, 4, 'red')].map((frame) => frame.png().toBuffer());
    await sharp(await Promise.all(frames), { join: { animated: true } }).toFile(join(folder, '1.gif'));
    await flat(4, 4, 'red').toColourspace('cmyk').jpeg({ quality: 100 }).toFile(join(folder, '2.jpg'));
    await flat(4, 4, 'lime').png({ palette: true }).toFile(join(folder, '3.png'));
    const kinds = await Promise.all(
      ['1.gif', '2.jpg', '3.png'].map((name) => sharp(join(folder, name)).metadata()),
    );
    expect([kinds[0].pages, kinds[1].space, kinds[2].isPalette]).toEqual([2, 'cmyk', true]);
    const pixels = await whole(await openImages(folder));
    const colours = range(3).map((i) => [0, 1, 2].map((c) => pixels[i * 48 + c * 16]));
    expect(colours[0]).toEqual([0, 0, 255]);
    // Through the CMYK profile a pure red comes back a little duller.
    expect(colours[1][0]).toBeGreaterThan(200);
    expect(Math.max(...colours[1].slice(1))).toBeLessThan(60);
    expect(colours[2]).toEqual([0, 255, 0]);
  });

  it('ends in spite of circular links, and follows honest ones once', async () => {
    const folder = await folderOf('links', { 'a/1.png': [4, 4, 'red'] });
    await symlink('..', join(folder, 'a/up'));
    await symlink('a', join(folder, 'alias'));
    await symlink('missing.png', join(folder, 'broken.png'));
    await symlink('self.png', join(folder, 'self.png'));
    const outside = await folderOf('outside', { '2.png': [4, 4, 'red'] });
    await symlink(outside, join(folder, 'z'));
    const set = await openImages(folder);
    expect(set.length).toBe(2);
    expect(set.report.skipped.map(({ file }) => file)).toEqual(['broken.png', 'self.png']);
  });

  it.skipIf(process.platform === 'win32')('skips pipes', async () => {
    const folder = await folderOf('pipe', { '1.png': [4, 4, 'red'] });
    expect(spawnSync('mkfifo', [join(folder, 'pipe.png')]).status).toBe(0);
    const set = await openImages(folder);
    expect(set.report.skipped).toEqual([{ file: 'pipe.png', reason: 'not a regular file' }]);
  });

  it.skipIf(process.platform !== 'linux')('skips files whose names are not UTF-8, and says so', async () => {
    const folder = await folderOf('latin1', { '1.png': [4, 4, 'red'] });
    await copyFile(join(folder, '1.png'), Buffer.from(`${folder}/caf\xe9.png`, 'latin1'));
    const set = await openImages(folder);
    expect(set.report.skipped).toEqual([
      { file: 'caf\uFFFD.png', reason: 'its name is not valid UTF-8; rename it' },
    ]);
  });

  it.skipIf(process.getuid?.() === 0)('skips files without permission', async () => {
    const folder = await folderOf('denied', { '1.png': [4, 4, 'red'], '2.png': [4, 4, 'red'] });
    await chmod(join(folder, '2.png'), 0);
    const set = await openImages(folder);
    expect(set.report.skipped).toEqual([{ file: '2.png', reason: 'no permission to read it' }]);
  });

  it('skips files that vanish while it works', async () => {
    const folder = await folderOf('vanishing', {
      '1.png': [4, 4, 'red'],
      '2.png': [4, 4, 'red'],
      '3.png': [4, 4, 'red'],
    });
    let removal: Promise<void> | null = null;
    const onProgress = (_done: number, _total: number, phase: string) => {
      if (phase === 'scan') removal ??= rm(join(folder, '2.png'), { force: true });
    };
    const set = await openImages(folder, { onProgress });
    await removal;
    expect(set.length + set.report.skipped.length).toBe(3);
  });

  it('says what is wrong with a path', async () => {
    const empty = join(scratch, 'empty');
    await mkdir(empty);
    await writeFile(join(scratch, 'file.txt'), '');
    await writeFile(join(scratch, 'text.zip'), 'no zip');
    const code = (path: string) =>
      openImages(path).then(
        () => 'none',
        (error) => error.code,
      );
    expect(await code(join(scratch, 'nothing'))).toBe('DATA_NOT_FOUND');
    expect(await code(empty)).toBe('DATA_EMPTY');
    expect(await code(join(scratch, 'file.txt'))).toBe('DATA_KIND');
    expect(await code(join(scratch, 'text.zip'))).toBe('DATA_ZIP');
    await writeFile(join(empty, 'x.heic'), 'x');
    await expect(openImages(empty)).rejects.toThrow(/x\.heic: \.heic is not supported/);
    await writeFile(join(empty, 'y.png'), 'x');
    await expect(openImages(empty)).rejects.toMatchObject({ code: 'DATA_EMPTY' });
  });

  it('stops when aborted', async () => {
    const folder = await folderOf('abort', { '1.png': [4, 4, 'red'] });
    await expect(openImages(folder, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });
});

describe('openImages on zips', () => {
  it.each([true, false])('reads entries, compressed: %s', async (compress) => {
    const png = (colour: string) => flat(4, 4, colour).png().toBuffer();
    const path = join(scratch, `any-${compress}.ZIP`);
    await zipOf(
      path,
      {
        'b.png': await png('blue'),
        'a.png': await png('red'),
        '__MACOSX/._a.png': Buffer.from('x'),
        'readme.md': Buffer.from('x'),
        'bad.png': Buffer.from('bad'),
      },
      compress,
    );
    const set = await openImages(path);
    expect(set.report.skipped).toEqual([
      { file: 'bad.png', reason: 'not an image (or of an unknown format)' },
    ]);
    expect((await whole(set, [0])).slice(0, 16).every((v) => v === 255)).toBe(true);
    await expect(openImages(path, { strict: true })).rejects.toMatchObject({ code: 'DATA_UNUSABLE' });
  });

  it('labels by top folders, as in a folder', async () => {
    const png = await flat(4, 4, 'red').png().toBuffer();
    const classes = await zipOf(join(scratch, 'c.zip'), { 'dog/2.png': png, 'cat/1.png': png }, true);
    const set = await openImages(classes);
    expect([set.classNames, [...set.labels([0, 1])]]).toEqual([
      ['cat', 'dog'],
      [1, 0, 0, 1],
    ]);
    const loose = await zipOf(join(scratch, 'c2.zip'), { 'dog/2.png': png, '1.png': png }, true);
    expect((await openImages(loose)).labelDim).toBe(0);
  });

  it.each([
    ['Explorer', {}],
    ['Finder', { 'photos/.DS_Store': 'x', '__MACOSX/photos/cat/._1.png': 'x', '.DS_Store': 'x' }],
  ])('labels a folder of folders that %s zipped', async (program, more) => {
    const png = await flat(4, 4, 'red').png().toBuffer();
    const files: Record<string, Buffer> = { 'photos/': Buffer.alloc(0), 'photos/cat/': Buffer.alloc(0) };
    for (const name of ['cat/1', 'cat/2', 'dog/1', 'owl/1']) files[`photos/${name}.png`] = png;
    for (const [name, text] of Object.entries(more)) files[name] = Buffer.from(text);
    const set = await openImages(await zipOf(join(scratch, `${program}.zip`), files, true));
    expect([set.classNames, set.length]).toEqual([['cat', 'dog', 'owl'], 4]);
    expect(range(4).map((i) => set.labelOf(i))).toEqual([0, 0, 1, 2]);
  });

  it('reads a prepared dataset that was zipped with its folder', async () => {
    const png = await flat(4, 4, 'red').png().toBuffer();
    const dataset = {
      'photos-64/00000/img00000000.png': png,
      'photos-64/00000/img00000001.png': png,
      'photos-64/dataset.json': Buffer.from(
        '{"labels": [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]]}',
      ),
    };
    const more = { '__MACOSX/photos-64/._dataset.json': Buffer.from('x'), ...dataset };
    const path = await zipOf(join(scratch, 'rezipped.zip'), more, true);
    expect(await datasetInfo(path)).toMatchObject({ isPrepared: true, count: 2, labels: { dim: 2 } });
    const other = { ...more, 'notes.txt': Buffer.from('x') };
    expect(await datasetInfo(await zipOf(path, other, true))).toMatchObject({ isPrepared: false });
  });

  it('checks labels', async () => {
    const png = await flat(4, 4, 'red').png().toBuffer();
    const open = async (labels: unknown) => {
      const text = typeof labels === 'string' ? labels : JSON.stringify({ labels });
      return openImages(
        await zipOf(
          join(scratch, 'l.zip'),
          { 'a.png': png, 'b.png': png, 'dataset.json': Buffer.from(text) },
          false,
        ),
      );
    };
    expect((await open(null)).labelDim).toBe(0);
    const set = await open([
      ['b.png', 2],
      ['a.png', 0],
    ]);
    expect([set.labelDim, [...set.labels([0, 1])]]).toEqual([3, [1, 0, 0, 0, 0, 1]]);
    const vectors = await open([
      ['b.png', [0.5, 1]],
      ['a.png', [2, 3]],
    ]);
    expect([vectors.labelDim, [...vectors.labels([1, 0])]]).toEqual([2, [0.5, 1, 2, 3]]);
    await expect(open([['a.png', 0]])).rejects.toThrow(/no label for b\.png/);
    await expect(
      open([
        ['a.png', 0],
        ['b.png', -1],
      ]),
    ).rejects.toThrow(/Entry 1/);
    await expect(
      open([
        ['a.png', 0],
        ['b.png', [1]],
      ]),
    ).rejects.toThrow(/another form/);
    await expect(open('{')).rejects.toThrow(/not valid JSON/);
    await expect(
      open([
        ['a.png', 0],
        ['b.png', 1e12],
      ]),
    ).rejects.toThrow(/class/);
  });
});

describe.skipIf(!available(dataDir))('openImages on real data', () => {
  const broken = join(dataDir, 'broken-sample');

  it('uses what it can of hostile and unusual files', async () => {
    const set = await openImages(broken, { resolution: 64 });
    expect(set.report).toEqual({
      used: 8,
      skipped: [
        {
          file: 'huge-20000x20000-1bit.png',
          reason: '20000 × 20000 pixels, more than the limit of 100 million',
        },
        { file: 'text-file.png', reason: 'not an image (or of an unknown format)' },
        { file: 'truncated.jpg', reason: expect.stringMatching(/^truncated/) },
        { file: 'zero-byte.png', reason: 'empty file' },
      ],
    });
    expect([set.length, set.channels]).toEqual([8, 3]);
    await expect(openImages(broken, { resolution: 64, strict: true })).rejects.toMatchObject({
      code: 'DATA_UNUSABLE',
    });
    await expect(openImages(broken)).rejects.toMatchObject({ code: 'DATA_MIXED_SIZES' });
  });

  it('opens a prepared zip at once and goes on decoding in the background', async () => {
    const set = await openImages(join(dataDir, 'cats-64x64.zip'));
    await set.ready(range(64).map((i) => (i * 77) % 5000));
    // What is not yet decoded cannot be gathered.
    const inMemory = range(5000).filter((i) => {
      try {
        return set.gather([i], { size: 1, rows: [0], cols: [0] });
      } catch {
        return false;
      }
    });
    expect(inMemory.length).toBeGreaterThanOrEqual(64);
    expect(inMemory.length).toBeLessThan(500);
    expect([set.length, set.channels, set.height, set.width, set.labelDim]).toEqual([5000, 3, 64, 64, 0]);
    await set.close();
  });

  it('reads labels of a prepared zip, on a part of it', async () => {
    const set = await openImages(join(dataDir, 'cifar10-32x32.zip'), {
      maxImages: 300,
      seed: 3,
      xflip: true,
    });
    expect([set.length, set.baseLength, set.labelDim]).toEqual([600, 300, 10]);
    const labels = set.labels(range(600));
    for (const i of range(600)) expect(labels.subarray(i * 10, i * 10 + 10).reduce((a, b) => a + b)).toBe(1);
    const { train, heldOut } = await holdOut(set, 40, 1);
    expect([train.length, heldOut.length]).toEqual([520, 40]);
    const images = await whole(train);
    expect(images.length).toBe(520 * 3072);
    // A mirrored copy is the mirror of its own image.
    const [row, mirrored] = [images.subarray(0, 32), images.subarray(260 * 3072, 260 * 3072 + 32)];
    expect([...mirrored]).toEqual([...row].reverse());
    await set.close();
  });

  it('reads idx files, also by their folder', async () => {
    const set = await openImages(join(dataDir, 'fashion-mnist'), { maxImages: 100 });
    expect([set.name, set.length, set.channels, set.height, set.labelDim]).toEqual([
      'train-images',
      100,
      1,
      32,
      10,
    ]);
    const pixels = await whole(set, [0]);
    expect(pixels.subarray(0, 64).every((v) => v === 0)).toBe(true);
    await set.close();
    const copy = join(scratch, 't10k-images-idx3-ubyte.gz');
    await copyFile(join(dataDir, 'fashion-mnist/t10k-images-idx3-ubyte.gz'), copy);
    const unlabelled = await datasetInfo(copy);
    expect([unlabelled.count, unlabelled.labels]).toEqual([10000, null]);
  });

  it('describes datasets', async () => {
    const cifar = await datasetInfo(join(dataDir, 'cifar10-32x32.zip'));
    expect(cifar).toMatchObject({
      name: 'cifar10-32x32',
      kind: 'zip',
      isPrepared: true,
      count: 10000,
      channels: 3,
    });
    expect(cifar.sizes).toEqual([{ width: 32, height: 32, count: 10000 }]);
    expect(cifar.labels?.classes?.map(({ count }) => count)).toEqual(range(10).map(() => 1000));
    const cats = await datasetInfo(join(dataDir, 'cats-folder-sample'));
    expect(cats).toMatchObject({ kind: 'folder', isPrepared: false, count: 200, skipped: [] });
    expect(cats.sizes[0]).toEqual({ width: 64, height: 64, count: 170 });
    expect((await datasetInfo(broken)).skipped.length).toBe(3);
    expect((await datasetInfo(broken, { verify: true })).skipped.length).toBe(4);
  });
});
