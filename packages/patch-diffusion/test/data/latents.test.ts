/** Files of latents: what `prepare --latents` writes is what training reads. */
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { SafetensorsFile } from '@patch-diffusion/torch';
import { beforeAll, describe, expect, it } from 'vitest';
import { describePath } from '../../src/cli/info.js';
import { infoText } from '../../src/cli/info-text.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { type LatentSet, openLatents } from '../../src/data/latents.js';
import { isLatentPath } from '../../src/data/names.js';
import { openImages } from '../../src/data/open-images.js';
import { labelsToDraw } from '../../src/data/sample-labels.js';
import type { DataSet } from '../../src/data/types.js';
import { holdOut } from '../../src/data/views.js';
import { prepare } from '../../src/index.js';
import { loadAutoencoder, saveAutoencoder } from '../../src/latents/autoencoder-folder.js';
import { makePatchBatch, pixelsToFloat } from '../../src/patches/batches.js';
import type { Crop } from '../../src/patches/patch-source.js';
import { openTrainingData } from '../../src/training/data.js';
import { expectClose } from '../helpers/golden.js';
import { writeRamps, writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const COUNT = 10;
/** Images of 48×32 pixels, latents of 12×8. */
const [WIDTH, HEIGHT, FACTOR] = [48, 32, 4];

let dir: string;
let source: string;
let autoencoder: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  source = await writeRamps(join(dir, 'photos'), COUNT, { width: WIDTH, height: HEIGHT, classes: 2 });
  autoencoder = await writeTinyAutoencoder(join(dir, 'vae'));
});

const encode = (name: string, options: Partial<Parameters<typeof prepare>[0]> = {}) =>
  prepare({
    source,
    out: join(dir, name),
    latents: true,
    autoencoder,
    xflip: true,
    device: 'cpu',
    ...options,
  });

const crop = (n: number, size: Crop['size'], row = 0, col = 0): Crop => ({
  size,
  rows: range(n).map(() => row),
  cols: range(n).map(() => col),
});

const whole = (set: LatentSet, indices = range(set.length)) =>
  torch.tensor(set.gather(indices, crop(indices.length, { height: set.height, width: set.width })), {
    shape: [2, indices.length, set.channels, set.height, set.width],
  });

/** Mean and standard deviation of the codes of the source's images, straight from the autoencoder. */
async function reference(): Promise<torch.Tensor> {
  const images = await openImages(source, { xflip: true });
  const model = await loadAutoencoder(autoencoder);
  const all = range(images.length);
  await images.ready(all);
  const pixels = images.gather(all, crop(all.length, { height: HEIGHT, width: WIDTH }));
  const result = torch.scope(() => {
    const { mean, logvar } = model.encode(pixelsToFloat(pixels, [all.length, 3, HEIGHT, WIDTH], 'cpu'));
    return torch.stack([mean, logvar.mul(0.5).exp()], 0);
  });
  model.dispose();
  await images.close();
  return result;
}

describe('prepare --latents', () => {
  it('stores the distributions of all images and their mirrored copies', async () => {
    const report = await encode('full.safetensors', { latentDtype: 'float32', encodeBatch: 3 });
    expect(report).toMatchObject({
      used: COUNT,
      width: 12,
      height: 8,
      channels: 4,
      labelDim: 2,
      skipped: [],
    });
    expect(report.bytes).toBe((await stat(join(dir, 'full.safetensors'))).size);
    const set = await openLatents(join(dir, 'full.safetensors'), { xflip: true });
    expect(set).toMatchObject({
      name: 'full',
      length: 2 * COUNT,
      baseLength: COUNT,
      channels: 4,
      height: 8,
      width: 12,
    });
    expect(set).toMatchObject({ labelDim: 2, classNames: ['class-0', 'class-1'] });
    expect(set.latents).toMatchObject({ scale: 0.18215, shift: 0, downFactor: FACTOR });
    await set.ready(range(set.length));
    using wanted = await reference();
    using stored = whole(set);
    expectClose(stored, wanted, 1e-5);
    torch.scope(() => {
      const [mean, std] = wanted.narrow(1, 0, COUNT).unbind(0);
      const mirrored = wanted.narrow(1, COUNT, COUNT).unbind(0);
      const means = torch.cat([mean, mirrored[0]]);
      const variance =
        torch.cat([std, mirrored[1]]).square().mean().item() + means.var(undefined, { correction: 0 }).item();
      expect(set.std).toBeCloseTo(0.18215 * Math.sqrt(variance), 5);
    });
    expect([...set.labels([0, 1, COUNT + 1])]).toEqual([1, 0, 1, 0, 1, 0]);
    expect([...set.labels([COUNT - 1])]).toEqual([0, 1]);
    expect([set.labelOf(0), set.labelOf(COUNT - 1)]).toEqual([0, 1]);
    await set.close();
  });

  it('keeps label vectors, as prepared images do', async () => {
    const photos = join(dir, 'vectors');
    await cp(source, photos, { recursive: true });
    const names = (await readdir(photos, { recursive: true })).filter((name) => name.endsWith('.png')).sort();
    const labels = names.map((name, i) => [name, i < 3 ? [0.3, 103] : [-1, i]]);
    await writeFile(join(photos, 'dataset.json'), JSON.stringify({ labels }));
    const latents = await encode('vectors.safetensors', { source: photos });
    const images = await prepare({ source: photos, out: join(dir, 'vectors.zip') });
    for (const report of [latents, images]) {
      expect(report).toMatchObject({ labelDim: 2, classNames: null });
      expect(report.labels).toContainEqual([0.3, 103]);
      expect(report.labels).toHaveLength(COUNT - 2);
    }
    const sets = [await openLatents(latents.out), await openImages(images.out)];
    for (const set of sets) {
      expect(set.labelOf(0)).toEqual(set.latents ? [Math.fround(0.3), 103] : [0.3, 103]);
      // float32 in the file of latents, decimal in dataset.json; recorded alike.
      expect(labelsToDraw(set, 0)).toEqual(labelsToDraw(sets[0], 0));
      expect([...set.labels([9])]).toEqual([-1, 9]);
      await set.close();
    }
    const bytes = await readFile(latents.out);
    bytes.writeFloatLE(Number.NaN, bytes.length - 8); // labels come last
    await writeFile(join(dir, 'nan-labels.safetensors'), bytes);
    await expect(openLatents(join(dir, 'nan-labels.safetensors'))).rejects.toThrow(
      /label of image 9 has NaN or infinite/,
    );
    const text = infoText(await describePath(latents.out));
    expect(text).toMatch(/^Labels +2 numbers per image$/m);
  });

  it('counts what it left out, and lists what its header has room for', async () => {
    const photos = join(dir, 'long-names');
    await cp(source, photos, { recursive: true });
    const long = 'ü'.repeat(110);
    const names = range(30).map((i) => `class-0/${long}/${long}${10 + i}.png`);
    await mkdir(join(photos, 'class-0', long));
    for (const name of names) await writeFile(join(photos, name), 'no image');
    await encode('skipped.safetensors', { source: photos });
    const set = await openLatents(join(dir, 'skipped.safetensors'));
    const { skipped, skippedCount } = set.report;
    expect([set.length, skippedCount, skipped[0].file]).toEqual([COUNT, 30, names[0]]);
    expect(skipped.length).toBeGreaterThan(10);
    expect(skipped.length).toBeLessThan(20);
    await set.close();
  });

  it('stores float16 by default, and reads any crop of it', async () => {
    await encode('half.safetensors');
    const set = await openLatents(join(dir, 'half.safetensors'), { xflip: true });
    using wanted = await reference();
    using stored = whole(set);
    expectClose(stored, wanted, 2 ** -11);
    const indices = [3, COUNT + 7, 0];
    const cut = set.gather(indices, { size: { height: 2, width: 5 }, rows: [6, 0, 3], cols: [7, 2, 0] });
    torch.scope(() => {
      const parts = torch.tensor(cut, { shape: [2, 3, 4, 2, 5] }).unbind(1);
      for (const [n, [row, col]] of [
        [6, 7],
        [0, 2],
        [3, 0],
      ].entries()) {
        const expected = stored.select(1, indices[n]).narrow(2, row, 2).narrow(3, col, 5);
        expectClose(parts[n], expected, 0, 0, `crop ${n}`);
      }
    });
    expect(() => set.gather([0], crop(1, 4, 5))).toThrow(/leaves latents/);
    expect(() => set.gather([2 * COUNT], crop(1, 4))).toThrow(/does not exist/);
    await set.close();
  });

  it('makes a file that other programs read', async () => {
    await encode('plain.safetensors', { xflip: false, labels: false });
    const file = SafetensorsFile.openSync(join(dir, 'plain.safetensors'));
    expect(file.names).toEqual(['moments']);
    expect(file.info('moments')).toEqual({ dtype: 'float16', shape: [COUNT, 1, 2, 4, 8, 12] });
    await file.close();
    await expect(openLatents(join(dir, 'plain.safetensors'), { xflip: true })).rejects.toThrow(
      /--xflip.*prepare it again/,
    );
    await expect(openLatents(join(dir, 'plain.safetensors'), { labels: true })).rejects.toThrow(/no labels/);
  });

  it('gives subsets and held-out parts the right images', async () => {
    const path = join(dir, 'half.safetensors');
    const all = await openLatents(path, { xflip: true });
    const some = await openLatents(path, { xflip: true, maxImages: 4, seed: 9 });
    expect([some.length, some.baseLength]).toEqual([8, 4]);
    using everything = whole(all);
    using chosen = whole(some);
    const rows = torch.scope(() =>
      range(8).map((k) =>
        range(2 * COUNT).filter(
          (n) => chosen.select(1, k).sub(everything.select(1, n)).abs().max().item() === 0,
        ),
      ),
    );
    // Each is found, and the mirrored copy of item k is the mirrored copy of its image.
    for (const k of range(4)) expect(rows[k + 4]).toEqual(rows[k].map((n) => n + COUNT));
    const { train, heldOut } = await holdOut(all, 3, 1);
    expect([train.length, heldOut.length]).toEqual([2 * (COUNT - 3), 3]);
    expect(train.latents).toEqual(all.latents);
    expect(train.gather([0], crop(1, 4))).toBeInstanceOf(Float32Array);
    await Promise.all([all.close(), some.close()]);
  });

  it('draws a fresh code for the pixels of the patch only', async () => {
    const set = await openLatents(join(dir, 'half.safetensors'));
    const asked: [string, readonly number[]][] = [];
    const fixed = (value: number) => (name: string, shape: readonly number[]) => {
      asked.push([name, shape]);
      return torch.full([...shape], value);
    };
    const random = {
      rand: fixed(0),
      randn: fixed(2),
      randint: (name: string, low: number, high: number, shape: readonly number[]) => {
        asked.push([name, [low, high]]);
        return torch.full([...shape], 3, { dtype: 'int64' });
      },
    };
    const patch = { height: 4, width: 8, probability: 1, multiplier: 1 };
    torch.scope(() => {
      const { images, positions, labels } = makePatchBatch(set, [5, 2], patch, { random });
      const [mean, std] = torch
        .tensor(set.gather([5, 2], crop(2, patch, 3, 3)), { shape: [2, 2, 4, 4, 8] })
        .unbind(0);
      expectClose(images, mean.add(std.mul(2)).mul(0.18215), 1e-6);
      expect(asked.find(([name]) => name === 'posterior')).toEqual(['posterior', [2, 4, 4, 8]]);
      expect(positions!.shape).toEqual([2, 2, 4, 8]);
      expect(positions!.select(0, 0).select(0, 0).select(0, 0).select(0, 0).item()).toBeCloseTo(
        (3 / 11 - 0.5) * 2,
        6,
      );
      expect(labels!.shape).toEqual([2, 2]);
    });
    await set.close();
  });

  it('leaves out what it cannot read, and nothing behind when it fails', async () => {
    const broken = await writeRamps(join(dir, 'broken'), 4, { width: 16, height: 16 });
    await writeFile(join(broken, 'class-0/002b.png'), Buffer.from('no picture'));
    const report = await encode('broken.safetensors', { source: broken, resolution: 16 });
    expect(report).toMatchObject({ used: 4, skipped: [{ file: 'class-0/002b.png' }] });
    const set = await openLatents(join(dir, 'broken.safetensors'));
    expect(set.length).toBe(4);
    expect(set.report.skipped).toHaveLength(1);
    await set.close();

    const before = await readdir(dir);
    await expect(encode('broken.safetensors')).rejects.toThrow(/exists already.*--force/);
    await expect(encode('x.zip')).rejects.toThrow(/\.safetensors file; call it so/);
    await expect(encode('x.safetensors', { autoencoder: undefined })).rejects.toThrow(/needs --autoencoder/);
    await expect(encode('x.safetensors', { autoencoder: dir })).rejects.toThrow(/no autoencoder in/);
    await expect(encode('x.safetensors', { resolution: 30 })).rejects.toThrow(
      /divides both sides by 4.*--resolution 32/,
    );
    await expect(encode('x.zip', { latents: false })).rejects.toThrow(/--xflip is for --latents/);
    const abort = new AbortController();
    const onProgress = (done: number) => done >= 2 && abort.abort();
    const aborted = prepare(
      { source, out: join(dir, 'x.safetensors'), latents: true, autoencoder, encodeBatch: 1, device: 'cpu' },
      { signal: abort.signal, onProgress },
    );
    await expect(aborted).rejects.toThrow(/abort/i);
    expect(await readdir(dir)).toEqual(before);
  });

  /** A copy of the float16 file in which some images have a number that is none. */
  async function damagedCopy(name: string, images: readonly number[]): Promise<string> {
    await encode('half-of-damaged.safetensors', { force: true });
    const bytes = await readFile(join(dir, 'half-of-damaged.safetensors'));
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    const [nan, infinity] = [0x7e00, 0xfc00];
    for (const [k, image] of images.entries())
      bytes.writeUInt16LE(k % 2 === 0 ? nan : infinity, start + image * 2 * 2 * 4 * 8 * 12 * 2 + 100);
    const path = join(dir, name);
    await writeFile(path, bytes);
    return path;
  }

  it('names images with NaN, and puts the next one in their place', async () => {
    const path = await damagedCopy('nan.safetensors', [3, 7]);
    const messages: string[] = [];
    const options = { data: path, xflip: true, cond: true, seed: 0 } as const;
    const train = (more: TrainOptionsInput = {}) =>
      openTrainingData(resolveTrainOptions({ call: { ...options, ...more } }), {
        emit: (event) => event.type === 'warning' && messages.push(event.message),
      });
    const set = (await train()) as LatentSet;
    await set.ready([3, 7, 5, COUNT + 3]);
    expect(messages.sort()).toEqual([
      'image 3 (NaN or infinite values) cannot be used; the next image takes its place',
      'image 7 (NaN or infinite values) cannot be used; the next image takes its place',
    ]);
    await set.ready(range(set.length));
    expect(messages).toHaveLength(2);
    expect(set.report).toMatchObject({ used: COUNT - 2, skippedCount: 2 });
    expect([3, 4, 7, 8].map((i) => set.labelOf(i))).toEqual([0, 0, 1, 1]);
    torch.scope(() => {
      const all = whole(set);
      expect(Number.isFinite(all.sum().item())).toBe(true);
      for (const [to, from] of [
        [3, 4],
        [COUNT + 3, COUNT + 4],
        [7, 8],
      ])
        expectClose(all.select(1, to), all.select(1, from), 0);
    });
    await set.close();
    await expect(train({ strict: true })).rejects.toThrow(
      /image [37] in .*nan\.safetensors: NaN or infinite values; .*leave out --strict/,
    );
  });

  it('holds out no images with NaN', async () => {
    const path = await damagedCopy('nan-holdout.safetensors', [3, 7]);
    for (const seed of range(4)) {
      const set = await openLatents(path);
      const { train, heldOut } = await holdOut(set, 4, seed);
      await Promise.all([train, heldOut].map((part) => part.ready(range(part.length))));
      const ids = (part: DataSet) =>
        range(part.length).map((i) => String(part.gather([i], crop(1, 2)).slice(0, 4)));
      const [seen, unseen] = [new Set(ids(train)), new Set(ids(heldOut))];
      expect([seen.size, unseen.size]).toEqual([COUNT - 2 - 4, 4]);
      expect([...unseen].filter((id) => seen.has(id))).toEqual([]);
      await set.close();
    }
  });

  it('gives up when no image has finite latents', async () => {
    const set = await openLatents(await damagedCopy('all-nan.safetensors', range(COUNT)));
    await expect(set.ready([0])).rejects.toThrow(/None of the images in .* NaN or infinite values/);
    await set.close();
  });

  it('encodes no image into values that float16 cannot hold', async () => {
    const set = await openLatents(join(dir, 'full.safetensors'));
    using all = whole(set);
    const largest = range(COUNT).map((n) => all.select(0, 0).select(0, n).abs().max().item());
    await set.close();
    const limit = [...largest].sort((a, b) => a - b)[COUNT / 2];
    const wide = join(dir, 'wide-vae');
    using model = await loadAutoencoder(autoencoder);
    torch.noGrad(() => {
      for (const [name, parameter] of model.namedParameters())
        if (name.startsWith('quant_conv.')) parameter.narrow(0, 0, 4).mul_(65500 / limit);
    });
    await saveAutoencoder(wide, model);
    const wanted = { autoencoder: wide, latentDtype: 'float16', xflip: false, encodeBatch: 4 } as const;
    const report = await encode('wide.safetensors', wanted);
    const left = largest.filter((value) => value <= limit).length;
    expect(report.used).toBe(left);
    expect(report.skipped).toHaveLength(COUNT - left);
    expect(report.skipped[0]).toMatchObject({
      file: expect.stringMatching(/^class-\d\/\d+\.png$/),
      reason: 'its latents have NaN or infinite values',
    });
    expect(report.std).toBeLessThan(65504);
    const stored = await openLatents(report.out, { strict: true });
    expect([stored.length, stored.labelOf(0)]).toEqual([left, 0]);
    await stored.close();
    await expect(encode('wide-strict.safetensors', { ...wanted, strict: true })).rejects.toThrow(
      /class-\d\/\d+\.png in .*NaN or infinite values.*--strict/,
    );
  });

  it('says what a file that does not fit is', async () => {
    const weights = join(autoencoder, 'diffusion_pytorch_model.safetensors');
    await expect(openLatents(weights)).rejects.toThrow(/does not hold latents.*prepare --latents/);
    await expect(openLatents(join(dir, 'none.safetensors'))).rejects.toThrow(/no such file/);
    expect([isLatentPath('a.safetensors'), isLatentPath('a.zip')]).toEqual([true, false]);
    await rm(join(dir, 'x.safetensors'), { force: true });
  });
});
