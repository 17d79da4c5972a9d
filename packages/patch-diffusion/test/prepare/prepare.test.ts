import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { UserError } from '../../src/common/errors.js';
import { resolvePrepareOptions } from '../../src/config/prepare-options.js';
import { openImages } from '../../src/data/open-images.js';
import { openSource } from '../../src/data/source.js';
import { prepare } from '../../src/index.js';
import { available, dataDir } from '../helpers/shared.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-prepare-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

/** Images [N, H, W, C] of a prepared dataset. */
async function readAll(
  path: string,
): Promise<{ names: readonly string[]; datasetJson: string; pixels: number[][] }> {
  const source = await openSource(path);
  const pixels: number[][] = [];
  for (let i = 0; i < source.names.length; i++) pixels.push([...(await source.decode(i)).data]);
  await source.close();
  return { names: source.names, datasetJson: source.datasetJson!, pixels };
}

/** A small gradient picture. */
const picture = (width: number, height: number, shift = 0) =>
  sharp(Buffer.from(Array.from({ length: width * height * 3 }, (_, i) => (i * 5 + shift * 40) % 256)), {
    raw: { width, height, channels: 3 },
  });

async function makeFolder(name: string, files: Record<string, [number, number]>): Promise<string> {
  const folder = join(scratch, name);
  for (const [index, [file, [width, height]]] of Object.entries(files).entries()) {
    await mkdir(join(folder, file, '..'), { recursive: true });
    await picture(width, height, index).toFile(join(folder, file));
  }
  return folder;
}

const sha = async (path: string) =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex');

describe('prepare', () => {
  it('writes the same bytes each time, stored and dated 1980-01-01', async () => {
    const source = await makeFolder('twice', {
      'a/1.png': [20, 30],
      'b/2.png': [40, 25],
      'b/3.jpg': [33, 33],
    });
    const outs = ['one.zip', 'two.zip'].map((name) => join(scratch, name));
    for (const out of outs) await prepare({ source, out, resolution: 16 });
    expect(await sha(outs[0])).toBe(await sha(outs[1]));
    const bytes = await readFile(outs[0]);
    expect(bytes.readUInt16LE(8)).toBe(0); // stored
    expect(bytes.readUInt16LE(10)).toBe(0); // 00:00
    expect(bytes.readUInt16LE(12)).toBe(0x21); // 1980-01-01
    const { datasetJson } = await readAll(outs[0]);
    expect(JSON.parse(datasetJson)).toEqual({
      labels: [
        ['00000/img00000000.png', 0],
        ['00000/img00000001.png', 1],
        ['00000/img00000002.png', 1],
      ],
      classes: ['a', 'b'],
    });
  });

  it('writes a folder with the same images, which opens like the zip', async () => {
    const source = await makeFolder('tofolder', { 'a/1.png': [20, 30], 'b/2.png': [40, 25] });
    const folder = join(scratch, 'prepared-folder');
    const zip = join(scratch, 'prepared-folder.zip');
    await prepare({ source, out: folder, resolution: { width: 24, height: 16 } });
    await prepare({ source, out: zip, resolution: { width: 24, height: 16 } });
    const [a, b] = [await openImages(folder), await openImages(zip)];
    expect([a.width, a.height, a.classNames]).toEqual([24, 16, ['a', 'b']]);
    await a.ready([0, 1]);
    await b.ready([0, 1]);
    const crop = { size: { height: 16, width: 24 }, rows: [0, 0], cols: [0, 0] };
    expect(a.gather([0, 1], crop)).toEqual(b.gather([0, 1], crop));
    await Promise.all([a.close(), b.close()]);
  });

  it('equals opening the folder directly with the same resolution', async () => {
    const source = await makeFolder('direct', { '1.png': [20, 30], '2.png': [40, 25], '3.png': [16, 16] });
    const out = join(scratch, 'direct.zip');
    const report = await prepare({ source, out, resolution: 16 });
    expect([report.used, report.labelDim, report.warnings]).toEqual([3, 0, []]);
    const direct = await openImages(source, { resolution: 16 });
    const prepared = await openImages(out);
    const all = [0, 1, 2];
    await prepared.ready(all);
    const crop = { size: 16, rows: [0, 0, 0], cols: [0, 0, 0] };
    expect(direct.gather(all, crop)).toEqual(prepared.gather(all, crop));
    await prepared.close();
  });

  it('asks for a resolution when sizes differ, naming two files', async () => {
    const source = await makeFolder('mixed', { 'x.png': [20, 30], 'y.png': [40, 25] });
    await expect(prepare({ source, out: join(scratch, 'mixed.zip') })).rejects.toThrow(
      /x\.png is 20 × 30, y\.png is 40 × 25.*--resolution 64/,
    );
    await expect(readdir(scratch)).resolves.not.toContain('mixed.zip');
  });

  it('does not overwrite without force, and never a folder of something else', async () => {
    const source = await makeFolder('force', { 'x.png': [8, 8] });
    const out = join(scratch, 'force.zip');
    await writeFile(out, 'precious');
    await expect(prepare({ source, out })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    expect(await readFile(out, 'utf8')).toBe('precious');
    await prepare({ source, out, force: true });
    expect((await readAll(out)).names.length).toBe(1);
    await expect(prepare({ source, out: source, force: true })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    const other = await makeFolder('other', { 'keep.png': [8, 8] });
    await expect(prepare({ source, out: other, force: true })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    expect(await readdir(other)).toEqual(['keep.png']);
    const dataset = join(scratch, 'force-folder');
    await prepare({ source, out: dataset });
    await prepare({ source, out: dataset, force: true });
  });

  it('finds that the output exists before it looks at anything', async () => {
    const source = join(scratch, 'no-such-source');
    const out = join(scratch, 'exists.zip');
    await writeFile(out, 'precious');
    await expect(prepare({ source, out })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    const latents = join(scratch, 'exists.safetensors');
    await writeFile(latents, 'precious');
    const options = { source, out: latents, latents: true, autoencoder: join(scratch, 'no-autoencoder') };
    await expect(prepare(options)).rejects.toMatchObject({ code: 'OUT_EXISTS' });
  });

  it('leaves an output inside the source out of it', async () => {
    const source = await makeFolder('inside', { 'x.png': [8, 8], 'y.png': [8, 8] });
    const out = join(source, 'small');
    for (let i = 0; i < 2; i++) {
      const report = await prepare({ source, out, resolution: 4, force: true });
      expect([report.used, report.labelDim]).toEqual([2, 0]);
    }
    await expect(prepare({ source: join(out, '00000'), out, force: true })).rejects.toThrow(
      /holds the source/,
    );
  });

  it('leaves nothing behind when aborted or failing', async () => {
    const folder = join(scratch, 'abort');
    const source = await makeFolder(
      'abort/in',
      Object.fromEntries([...Array(30).keys()].map((i) => [`${i}.png`, [9, 9]])),
    );
    const controller = new AbortController();
    const onProgress = (_done: number, _total: number, phase: string) => {
      if (phase === 'write') controller.abort();
    };
    await expect(
      prepare({ source, out: join(folder, 'x.zip') }, { onProgress, signal: controller.signal }),
    ).rejects.toMatchObject({ name: 'AbortError' });
    await writeFile(join(source, '31.png'), 'text');
    for (const out of ['x.zip', 'y']) {
      await expect(prepare({ source, out: join(folder, out), strict: true })).rejects.toThrow(/31\.png/);
    }
    expect(await readdir(folder)).toEqual(['in']);
  });

  it('explains why it cannot write', async () => {
    const source = await makeFolder('nowhere', { 'x.png': [8, 8] });
    const file = join(scratch, 'a-file');
    await writeFile(file, '');
    await expect(prepare({ source, out: join(file, 'out.zip') })).rejects.toMatchObject({
      code: 'OUT_WRITE',
    });
    if (process.platform === 'linux') {
      // /proc takes no new files, whoever asks.
      await expect(prepare({ source, out: '/proc/out.zip' })).rejects.toMatchObject({ code: 'OUT_WRITE' });
    }
  });

  it('checks its options', async () => {
    const source = await makeFolder('options', { 'x.png': [8, 8] });
    const out = join(scratch, 'options.zip');
    const codes = async (options: object) =>
      prepare({ source, out, ...options }).then(
        () => 'none',
        (error: UserError) => `${error.code} ${error.exitCode}`,
      );
    expect(await codes({ resolution: 0 })).toBe('BAD_OPTION 2');
    expect(await codes({ resolutoin: 8 })).toBe('UNKNOWN_OPTION 2');
    expect(await codes({ transform: 'stretch' })).toBe('BAD_OPTION 2');
    expect(await codes({ transform: 'center-crop-wide', resolution: { width: 8, height: 16 } })).toBe(
      'BAD_OPTION 2',
    );
    expect(await codes({ autoencoder: 'vae' })).toBe('BAD_OPTION 2');
    expect(await codes({ latents: true, autoencoder: 'vae' })).toBe('BAD_OPTION 2'); // writes no zip
    expect(await codes({ labels: true })).toBe('DATA_NO_LABELS 1');
  });

  it('takes its options from a file, flags first', () => {
    const file = { name: 'p.yaml', values: { source: 'a', out: 'b.zip', resolution: '96x64', strict: true } };
    expect(resolvePrepareOptions({ file, flags: { strict: 'false', maxImages: '7' } })).toMatchObject({
      source: 'a',
      resolution: { width: 96, height: 64 },
      strict: false,
      maxImages: 7,
    });
    expect(() => resolvePrepareOptions({ file: { name: 'p.yaml', values: { latents: 'x' } } })).toThrow(
      /"latents" in p\.yaml/,
    );
  });

  it('drops labels that are incomplete, and says so', async () => {
    const source = await makeFolder('partial', { 'x.png': [8, 8], 'y.png': [8, 8] });
    await writeFile(join(source, 'dataset.json'), '{"labels": [["x.png", 1]]}');
    const report = await prepare({ source, out: join(scratch, 'partial.zip') });
    expect(report.labelDim).toBe(0);
    expect(report.warnings[0]).toMatch(/no label for y\.png/);
    await expect(prepare({ source, out: join(scratch, 'p2.zip'), labels: true })).rejects.toThrow(/y\.png/);
  });
});

describe.skipIf(!available(dataDir))('prepare, with hostile and unusual files', () => {
  it('uses what can be used and lists the rest', async () => {
    const out = join(scratch, 'broken.zip');
    const report = await prepare({ source: join(dataDir, 'broken-sample'), out, resolution: 32 });
    expect(report.used).toBe(8);
    expect(report.skipped.map(({ file }) => file).sort()).toEqual([
      'huge-20000x20000-1bit.png',
      'text-file.png',
      'truncated.jpg',
      'zero-byte.png',
    ]);
    const images = await openImages(out);
    expect(images.length).toBe(8);
    await images.close();
  });

  it('reads idx files', async () => {
    const out = join(scratch, 'fashion.zip');
    const source = join(dataDir, 'fashion-mnist/train-images-idx3-ubyte.gz');
    const report = await prepare({ source, out, maxImages: 50 });
    expect([report.used, report.width, report.height, report.channels, report.labelDim]).toEqual([
      50, 32, 32, 1, 10,
    ]);
  });
});
