/** Labels from the data to the generated images: gaps between classes, label vectors, names. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { describePath } from '../../src/cli/info.js';
import { infoText } from '../../src/cli/info-text.js';
import type { Label } from '../../src/diffusion/labels.js';
import { generate, loadSnapshot, train } from '../../src/index.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';
import { listSheets, newestSnapshot } from '../../src/run/runs.js';
import { imageFolder, range } from '../helpers/images.js';
import { temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
beforeAll(async () => {
  dir = await temporaryFolder();
});

const colours = ['red', 'green', 'blue', 'white'];

/** A short run on eight images with these labels. */
async function trainOn(name: string, labels: readonly Label[]): Promise<string> {
  const names = range(8).map((i) => `${i}.png`);
  const folder = await imageFolder(
    join(dir, name),
    Object.fromEntries(names.map((file, i) => [file, [16, 16, colours[i % 4]] as const])),
  );
  const list = names.map((file, i) => [file, labels[i % labels.length]]);
  await writeFile(join(folder, 'dataset.json'), JSON.stringify({ labels: list }));
  return runOn(folder);
}

async function runOn(data: string): Promise<string> {
  const out = `${data}-run`;
  await train({ data, ...tinyOptions, cond: true, samples: 16, durationKimg: 0.03, out });
  return out;
}

const draw = (name: string, options: Parameters<typeof generate>[0]) =>
  generate({ steps: 2, out: join(dir, name), ...options });

const imagesIn = async (file: string | undefined) =>
  JSON.parse(await readFile(file ?? '', 'utf8')).images as Record<string, unknown>[];

const textOf = async (png: string) =>
  Object.fromEntries(
    ((await sharp(png).metadata()).comments ?? []).map(({ keyword, text }) => [keyword, text]),
  );

/** The line on labels that `info` shows. */
const infoLabels = async (path: string) => /^Labels +(.*)$/m.exec(infoText(await describePath(path)))?.[1];

/** What the images of the run's last sheet show. */
const sheetLabels = async (run: string) =>
  JSON.parse((await textOf((await listSheets(run)).at(-1)!)).Labels ?? '[]') as Record<string, unknown>[];

describe('classes 1 and 7 only', () => {
  let run: string;
  beforeAll(async () => {
    run = await trainOn('gaps', [7, 1]);
  });

  it('are the only ones that sheets and images show', async () => {
    const sheet = await sheetLabels(run);
    expect(sheet).toHaveLength(16);
    expect(new Set(sheet.map((label) => label.class))).toEqual(new Set([1, 7]));
    const { labels } = await draw('gaps-drawn', { run, count: 64 });
    const images = await imagesIn(labels);
    expect(images).toHaveLength(64);
    expect(new Set(images.map((image) => image.class))).toEqual(new Set([1, 7]));
  });

  it('are what info counts', async () => {
    const text = '2 of 8 classes with images: 1, 7';
    expect(await infoLabels(run)).toBe(text);
    expect(await infoLabels((await newestSnapshot(run))!)).toBe(text);
    expect(await infoLabels(join(dir, 'gaps'))).toBe('2 of 8 classes with images: 1 (4), 7 (4)');
  });

  it('are named when another one is asked for', async () => {
    for (const wanted of [3, 0, 8]) {
      await expect(draw('gaps-never', { run, class: wanted, count: 1 })).rejects.toMatchObject({
        message: `--class ${wanted}: this network was trained on images of classes 1, 7`,
        exitCode: 2,
      });
    }
    const { labels } = await draw('gaps-seven', { run, class: 7, seeds: [5] });
    expect(await imagesIn(labels)).toEqual([{ file: '000005.png', seed: 5, class: 7 }]);
  });

  it('are not known of a snapshot of an earlier version, which draws all classes as ever', async () => {
    const { snapshot } = await train({ resume: run, durationKimg: 0.05 });
    const { denoiser, info } = await loadSnapshot(snapshot!);
    const { labels: known, ...dataset } = info.dataset;
    expect(known).toEqual([1, 7]);
    const damaged = join(dir, 'damaged.safetensors');
    for (const labels of [[1, 8], [[1, 2]], ['x']]) {
      await writeSnapshot(damaged, denoiser, { ...info, dataset: { ...dataset, labels: labels as Label[] } });
      await expect(draw('gaps-never', { network: damaged })).rejects.toMatchObject({ name: 'UserError' });
    }
    const old = join(dir, 'old.safetensors');
    await writeSnapshot(old, denoiser, { ...info, dataset });
    denoiser.dispose();
    const { labels } = await draw('gaps-old', { network: old, count: 64 });
    expect(new Set((await imagesIn(labels)).map((image) => image.class))).toEqual(new Set(range(8)));
    await expect(draw('gaps-never', { network: old, class: 8 })).rejects.toThrow('classes 0 to 7');
  });
});

describe('label vectors', () => {
  const vectors = [
    [0.3, 103],
    [-1, 5],
    [0, 0],
  ];
  let run: string;
  beforeAll(async () => {
    run = await trainOn('vectors', vectors);
  });

  it('are drawn from those of the images', async () => {
    const sheet = await sheetLabels(run);
    expect(new Set(sheet.map(({ label }) => String(label)))).toEqual(new Set(vectors.map(String)));
    const { labels, files } = await draw('vectors-drawn', { run, count: 32 });
    const images = await imagesIn(labels);
    expect(new Set(images.map(({ label }) => String(label)))).toEqual(new Set(vectors.map(String)));
    expect(await textOf(files[3])).toEqual({ Label: String(images[3].label) });
  });

  it('are what info tells', async () => {
    expect(await infoLabels(run)).toMatch(/^labels of 2 numbers, such as \S+,\S+$/);
    expect(await infoLabels(join(dir, 'vectors'))).toBe('2 numbers per image');
  });

  it('may be given, also such as no image has', async () => {
    const { labels } = await draw('vectors-given', { run, label: [0.5, 50], count: 2 });
    expect(await imagesIn(labels)).toEqual([
      { file: '000000.png', seed: 0, label: [0.5, 50] },
      { file: '000001.png', seed: 1, label: [0.5, 50] },
    ]);
  });

  it.each([
    [
      { class: 1 },
      /^--class 1: this network was trained with label vectors, not with classes; give one with --label, such as --label \S+,\S+$/,
    ],
    [{ label: [1, 2, 3] }, /^--label 1,2,3: a label of this network has 2 numbers, such as \S+,\S+$/],
    [{ label: [1, 2], class: 0 }, /^--class and --label exclude each other/],
  ])('refuse %j', async (options, message) => {
    await expect(draw('vectors-never', { run, count: 1, ...options })).rejects.toMatchObject({
      message: expect.stringMatching(message),
      exitCode: 2,
    });
  });
});

describe('classes with names', () => {
  let run: string;
  beforeAll(async () => {
    const files = ['cat/a', 'cat/b', 'dog/a', 'dog/b', 'owl/a', 'owl/b'];
    run = await runOn(
      await imageFolder(
        join(dir, 'animals'),
        Object.fromEntries(files.map((file, i) => [`${file}.png`, [16, 16, colours[i % 4]] as const])),
      ),
    );
  });

  it('may be asked for by name, and are recorded with it', async () => {
    const { labels, files } = await draw('dogs', { run, class: 'dog', count: 2 });
    expect(await imagesIn(labels)).toEqual([
      { file: '000000.png', seed: 0, class: 1, name: 'dog' },
      { file: '000001.png', seed: 1, class: 1, name: 'dog' },
    ]);
    expect(await textOf(files[0])).toEqual({ Class: '1', 'Class name': 'dog' });
    const [first] = await sheetLabels(run);
    expect(first).toEqual({ class: first.class, name: ['cat', 'dog', 'owl'][first.class as number] });
  });

  it('are listed by info', async () => {
    expect(await infoLabels(run)).toBe('3 classes: cat, dog, owl');
    expect(await infoLabels((await newestSnapshot(run))!)).toBe('3 classes: cat, dog, owl');
    expect(await infoLabels(join(dir, 'animals'))).toBe('3 classes: cat (2), dog (2), owl (2)');
  });

  it('are listed where a name is wrong', async () => {
    await expect(draw('never', { run, class: 'dgo', count: 1 })).rejects.toThrow(
      '--class dgo: this network was trained on images of classes 0 (cat), 1 (dog), 2 (owl); did you mean dog?',
    );
  });

  it('add to the list of images that were there', async () => {
    const out = { run, out: join(dir, 'mixed') };
    await draw('mixed', { ...out, class: 'dog', seeds: [1, 2] });
    const { labels } = await draw('mixed', { ...out, class: 'owl', seeds: [2, 1003], subdirs: true });
    await draw('mixed', { ...out, class: 'owl', seeds: [2] });
    expect((await imagesIn(labels)).map(({ file, name }) => [file, name])).toEqual([
      ['000000/000002.png', 'owl'],
      ['000001.png', 'dog'],
      ['000002.png', 'owl'],
      ['001000/001003.png', 'owl'],
    ]);
  });

  it('leave a file alone that is not such a list', async () => {
    await imageFolder(join(dir, 'foreign'), { 'a.png': [4, 4, 'red'] });
    await writeFile(join(dir, 'foreign', 'labels.json'), '{"cats": 3}');
    await expect(draw('foreign', { run, count: 1 })).rejects.toThrow(
      'labels.json is not a list of generated images; move it away, or choose another --out',
    );
  });
});

it('a number that is also the name of another class is a number, with a word', async () => {
  const run = await runOn(
    await imageFolder(join(dir, 'numbers'), {
      '1/a.png': [16, 16, 'red'],
      '2/a.png': [16, 16, 'blue'],
      '10/a.png': [16, 16, 'white'],
    }),
  );
  const warnings: string[] = [];
  const onEvent = (event: { type: string; message?: string }) => {
    if (event.type === 'warning') warnings.push(event.message ?? '');
  };
  const options = { run, steps: 2, seeds: [0], out: join(dir, 'numbers-drawn') };
  const { labels } = await generate({ ...options, class: 1 }, { onEvent });
  expect(await imagesIn(labels)).toMatchObject([{ class: 1, name: '10' }]);
  expect(warnings).toEqual(['--class 1 is class number 1, called "10"; the class called "1" is number 0']);
  await generate({ ...options, class: 10 }, { onEvent });
  expect(await imagesIn(labels)).toMatchObject([{ class: 1, name: '10' }]);
  expect(warnings).toHaveLength(1);
});
