/**
 * The data pipeline against the official dataset tool, dataset class and sampler. What was run is in the vectors'
 * `config`; tags of tensors say the rest (`n4_seed0`, `seed1_realp50`).
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor } from '@patch-diffusion/torch';
import { afterAll, beforeAll, expect } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { decodeImage } from '../../src/data/decode.js';
import type { ImageSource } from '../../src/data/image-source.js';
import { comparePaths } from '../../src/data/names.js';
import { openImages } from '../../src/data/open-images.js';
import type { RawImage } from '../../src/data/resize.js';
import { InfiniteSampler } from '../../src/data/sampler.js';
import { openSource } from '../../src/data/source.js';
import { chooseSubset } from '../../src/data/subset.js';
import { toChannels, transformImage } from '../../src/data/transform.js';
import type { Transform } from '../../src/data/types.js';
import { prepare } from '../../src/index.js';
import { describeGolden, type Golden, goldenDir } from '../helpers/golden.js';

interface Run {
  readonly dest: string;
  readonly source: string;
  readonly args: readonly string[];
  readonly names: readonly string[];
  readonly dataset_json: { readonly labels: readonly [string, number][] | null };
}

interface Config {
  readonly kind: 'dataset' | 'orders';
  readonly runs: readonly Run[];
  /** The set that the dataset class opened. */
  readonly name: string;
  readonly length: number;
  readonly label_shape: readonly number[];
  readonly image_shape: readonly number[];
  readonly infinite_sampler: readonly {
    tag: string;
    n: number;
    seed: number;
    rank: number;
    num_replicas: number;
    window_size: number;
  }[];
}

/** Decoders of JPEG round differently: levels that single pixels, and pixels on average, may be off. */
const JPEG_TOLERANCE = { max: 24, mean: 1.5 };
/** Pillow's resize, as its README states it. */
const RESIZE_LEVELS = 1;

const dir = join(goldenDir, 'dataset');
let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-golden-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

const bytesOf = (tensor: Tensor) => tensor.toTypedArray() as Uint8Array;
const integersOf = (tensor: Tensor) => Array.from(tensor.toTypedArray() as BigInt64Array, Number);

describeGolden<Config>('dataset', ['dataset', 'orders'], async (golden) => {
  if (golden.config.kind === 'orders') {
    checkSampler(golden);
    checkPatchChoices(golden);
    return;
  }
  await checkDecoding(golden);
  for (const run of golden.config.runs) await checkRun(golden, run);
  await checkDatasetClass(golden);
  checkSubsets(golden);
});

/** Fails unless two images agree; those from JPEG files only roughly. */
function expectPixels(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  source: string,
  levels: number,
  what: string,
): void {
  expect(actual.length, `${what}: size`).toBe(expected.length);
  let [max, sum] = [0, 0];
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    max = Math.max(max, difference);
    sum += difference;
  }
  const lossy = /\.jpe?g$/i.test(source);
  expect(max, `${what}: largest difference`).toBeLessThanOrEqual(lossy ? JPEG_TOLERANCE.max : levels);
  if (lossy) expect(sum / actual.length, `${what}: mean difference`).toBeLessThanOrEqual(JPEG_TOLERANCE.mean);
}

/** `[H, W]` or `[H, W, C]`, 8 bits. */
function toImage(tensor: Tensor): RawImage {
  const [height, width, channels = 1] = tensor.shape;
  return { data: bytesOf(tensor), height: height, width: width, channels };
}

async function checkDecoding({ group }: Golden<Config>): Promise<void> {
  for (const [path, tensor] of group('in.decoded.')) {
    const expected = toImage(tensor);
    const { data, height, width, channels } = await decodeImage(await readFile(join(dir, path)));
    expect([height, width, channels], path).toEqual([expected.height, expected.width, expected.channels]);
    expectPixels(data, expected.data, path, 0, `decoded ${path}`);
  }
}

/** One run of the dataset tool: our `prepare` from the files, crop and resize alone, and the zip that it wrote. */
async function checkRun({ tensor, group }: Golden<Config>, run: Run): Promise<void> {
  const argument = (name: string) =>
    run.args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
  const expected = tensor(`out.${run.dest.replace(/\.zip$/, '')}.images_nhwc`);
  const [count, , , channels] = expected.shape as [number, number, number, number];
  const names = run.names.filter((name) => name !== 'dataset.json');
  expect(names.length).toBe(count);
  const imageBytes = expected.numel / count;
  const pixels = bytesOf(expected);
  const expectedImage = (i: number) => pixels.subarray(i * imageBytes, (i + 1) * imageBytes);
  // Images are numbered by their source, so those that were left out are gaps.
  const sourceNumbers = names.map((name) => Number(/(\d+)\.png$/.exec(name)![1]));

  const transform = (argument('transform') ?? 'none') as Transform;
  const size = parseResolution(argument('resolution'));
  const maxImages = argument('max-images');
  const out = join(scratch, run.dest);
  await prepare({
    source: join(dir, run.source),
    out,
    transform,
    ...(size && { resolution: size }),
    ...(maxImages === undefined ? {} : { maxImages: Number(maxImages) }),
  });
  const sourceNames = await withSource(join(dir, run.source), ({ kind, names }) =>
    kind === 'folder' ? [...names].sort(comparePaths) : [...names],
  );
  for (const [path, isOurs] of [
    [out, true],
    [join(dir, run.dest), false],
  ] as const) {
    await withSource(path, async (source) => {
      expect(source.names, run.dest).toEqual(names);
      expect(JSON.parse(source.datasetJson!).labels, run.dest).toEqual(run.dataset_json.labels);
      for (const [i, number] of sourceNumbers.entries()) {
        const { data } = toChannels(await source.decode(i), channels as 1 | 3);
        const what = `${isOurs ? 'prepared' : 'read'} ${run.dest}: ${names[i]}`;
        if (isOurs) expectPixels(data, expectedImage(i), sourceNames[number], RESIZE_LEVELS, what);
        else expectPixels(data, expectedImage(i), names[i], 0, what);
      }
    });
  }

  if (!size) return;
  const decoded = group('in.decoded.');
  for (const [i, number] of sourceNumbers.entries()) {
    const recorded = await decodedSource(decoded, run.source, sourceNames[number]);
    if (!recorded) continue;
    const { data } = toChannels(transformImage(toImage(recorded), transform, size), channels as 1 | 3);
    expectPixels(data, expectedImage(i), 'decoded', RESIZE_LEVELS, `resized ${run.dest}: ${names[i]}`);
  }
}

/** `96x64`, width first. */
function parseResolution(text: string | undefined): { width: number; height: number } | undefined {
  const [width, height] = text?.split('x').map(Number) ?? [];
  return width && height ? { width, height } : undefined;
}

async function withSource<T>(path: string, use: (source: ImageSource) => T | Promise<T>): Promise<T> {
  const source = await openSource(path);
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

/** The recorded pixels of a source file, or of an equal file in another folder; none for images of zips. */
async function decodedSource(
  decoded: ReadonlyMap<string, Tensor>,
  folder: string,
  file: string,
): Promise<Tensor | undefined> {
  const own = decoded.get(`${folder}/${file}`);
  if (own || folder.endsWith('.zip')) return own;
  const bytes = await readFile(join(dir, folder, file));
  for (const [path, tensor] of decoded) {
    if (path.endsWith(`/${file}`) && bytes.equals(await readFile(join(dir, path)))) return tensor;
  }
  throw new Error(`no recorded pixels of ${folder}/${file}`);
}

/** Images and labels of the dataset class, mirrored copies included. */
async function checkDatasetClass({ config, tensor, has }: Golden<Config>): Promise<void> {
  if (!has('out.dataset_xflip.images_nchw')) return;
  const set = await openImages(join(dir, `${config.name}.zip`), { xflip: true });
  const labels = tensor('out.dataset_xflip.labels');
  expect([set.name, set.length, set.labelDim]).toEqual([config.name, config.length, labels.shape[1]]);
  expect([set.labelDim]).toEqual(config.label_shape);
  expect([set.channels, set.height, set.width]).toEqual(config.image_shape);
  const all = Array.from({ length: set.length }, (_, i) => i);
  const zeros = all.map(() => 0);
  await set.ready(all);
  const crop = { size: { height: set.height, width: set.width }, rows: zeros, cols: zeros };
  expect(set.gather(all, crop)).toEqual(bytesOf(tensor('out.dataset_xflip.images_nchw')));
  expect(set.labels(all)).toEqual(labels.toFloat32Array());
  await set.close();
}

/** What `max_size` keeps of that set. */
function checkSubsets({ config, group, tensor }: Golden<Config>): void {
  const subsets = group('out.max_size.');
  if (subsets.size === 0) return;
  const [length] = tensor(`out.${config.name}.images_nhwc`).shape;
  for (const [tag, expected] of subsets) {
    const [count, seed] = /n(\d+)_seed(\d+)\.raw_idx$/.exec(tag)!.slice(1).map(Number);
    expect([...chooseSubset(length, count, seed)], tag).toEqual(integersOf(expected));
    expect([...chooseSubset(length, count, seed + 2 ** 31)], tag).toEqual(integersOf(expected));
  }
}

function checkSampler({ config, tensor }: Golden<Config>): void {
  for (const { tag, n, seed, rank, num_replicas, window_size } of config.infinite_sampler) {
    const expected = integersOf(tensor(`out.infinite_sampler.${tag}`));
    const sampler = new InfiniteSampler({
      length: n,
      seed,
      rank,
      worldSize: num_replicas,
      windowFraction: window_size,
    });
    expect([...sampler.next(expected.length)], tag).toEqual(expected);
  }
}

/** The patch sizes that the official loop draws from NumPy's generator, after one draw for the torch seed. */
function checkPatchChoices({ group }: Golden<Config>): void {
  const recorded = [...group('out.patch_choice.')].map(([tag, tensor]) => {
    const [seed, percent] = /^seed(\d+)_(?:torch_seed|realp(\d+))$/.exec(tag)!.slice(1);
    return { tag, seed: Number(seed), percent, values: integersOf(tensor) };
  });
  const choices = recorded.filter(({ percent }) => percent !== undefined);
  const sides = [...new Set(choices.flatMap(({ values }) => values))].sort((a, b) => a - b);
  for (const { tag, seed, percent, values } of recorded) {
    const rng = new Mt19937(seed);
    const torchSeed = rng.randint(0, 2 ** 31);
    if (percent === undefined) {
      expect([torchSeed], tag).toEqual(values);
      continue;
    }
    const p = Number(percent) / 100;
    // Pixels have three sizes, latents two.
    const probabilities = sides.length === 2 ? [1 - p, p] : [((1 - p) * 2) / 5, ((1 - p) * 3) / 5, p];
    const drawn = values.map(() => sides[rng.choice(sides.length, probabilities)]);
    expect(drawn, tag).toEqual(values);
  }
}
