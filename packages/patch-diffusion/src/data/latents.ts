/**
 * Latents that were encoded once, instead of at every use as in the reference: a safetensors file with the mean and
 * standard deviation of every image's code, so that training still draws a fresh code each time.
 *
 *     moments  float16 or float32 [N, 1 | 2, 2, C, h, w]: image; as it is, mirrored; mean, standard deviation
 *     labels   int64 [N] classes, or float32 [N, K] vectors; absent without labels
 *
 * Only the images of a batch are read, one stretch of the file each. The operating system's cache keeps what fits
 * into memory, once for all processes of a machine, so the set may be larger than memory.
 */

import type { SafetensorsFile } from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import { type Label, labelRows } from '../diffusion/labels.js';
import { readMetadata } from '../formats/file-description.js';
import { openTensorFile } from '../formats/tensor-file.js';
import type { Crop } from '../patches/patch-source.js';
import { forEachConcurrently } from './concurrency.js';
import { UnusableImage } from './decode.js';
import { allFinite } from './finite.js';
import { datasetName } from './names.js';
import { Places } from './places.js';
import { chooseSubset } from './subset.js';
import type { DataSet, ImageReport, LabelMode, LatentInfo, Progress, SkippedFile } from './types.js';
import { checkMostUsable, strictError } from './unusable.js';

export const LATENTS_FORMAT_VERSION = 1;
/** Reads at a time when a batch is fetched from the disk. */
const READ_CONCURRENCY = 8;

const side = z.number().int().min(1);

/** What a file of latents says of itself. */
export const latentFileSchema = z.object({
  kind: z.literal('latents'),
  formatVersion: z.number(),
  autoencoder: z.object({ path: z.string(), sha256: z.string() }),
  scale: z.number().positive(),
  shift: z.number(),
  downFactor: side,
  /** Size of the images that were encoded, in pixels. */
  image: z.object({ height: side, width: side, channels: side }),
  source: z.object({
    path: z.string(),
    /** The first of those that were left out; older files do not say how many there were. */
    skipped: z.array(z.object({ file: z.string(), reason: z.string() })),
    skippedCount: z.number().int().min(0).optional(),
  }),
  labelDim: z.number().int().min(0),
  classNames: z.array(z.string()).nullable(),
  /** Standard deviation of the scaled latents: over all elements, and per channel. */
  std: z.number().positive(),
  channelStd: z.array(z.number()),
});

export type LatentFileInfo = z.infer<typeof latentFileSchema>;

export interface OpenLatentsOptions {
  /** Default `auto`: use labels if there are any. */
  labels?: LabelMode;
  /** Adds the mirrored copies, which must have been encoded too. */
  xflip?: boolean;
  /** Uses at most this many images, chosen by `seed` (default 0). */
  maxImages?: number;
  seed?: number;
  /** Read all latents now, and stop at the first with NaN or infinite values. */
  strict?: boolean;
  /** Told of each image with such values that is found later; the next one without takes its place. */
  onSkip?: (skipped: SkippedFile) => void;
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** Encoded images as training data; all sizes in latent pixels. */
export class LatentSet implements DataSet {
  readonly name: string;
  readonly path: string;
  readonly baseLength: number;
  readonly length: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  readonly report: ImageReport;
  readonly latents: LatentInfo;
  readonly std: number;
  readonly #file: SafetensorsFile;
  readonly #entries: Int32Array;
  readonly #labels: readonly Label[] | null;
  readonly #stored: Stored;
  readonly #places: Places;
  /** 1 where it is known which image stands in a place. */
  readonly #isSettled: Uint8Array;

  constructor(file: SafetensorsFile, info: LatentFileInfo, options: OpenLatentsOptions) {
    const { shape, dtype } = file.info('moments');
    const [count, copies, , channels, height, width] = shape as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    if (options.xflip && copies < 2) {
      throw new UserError(
        'NO_MIRRORED_LATENTS',
        `--xflip: ${file.path} has no mirrored copies; prepare it again with --xflip, or leave the option out`,
        { exitCode: 2 },
      );
    }
    this.path = file.path;
    this.name = datasetName(file.path);
    this.#file = file;
    this.#entries = chooseSubset(count, options.maxImages ?? count, options.seed ?? 0);
    this.baseLength = this.#entries.length;
    this.length = this.baseLength * (options.xflip ? 2 : 1);
    [this.channels, this.height, this.width] = [channels, height, width];
    this.#labels = options.labels === false ? null : readLabels(file, info);
    if (options.labels === true && this.#labels === null) {
      throw new UserError(
        'DATA_NO_LABELS',
        `${file.path} has no labels; prepare it again from images with labels, or train without classes`,
      );
    }
    this.labelDim = this.#labels === null ? 0 : info.labelDim;
    this.classNames = this.#labels === null ? null : info.classNames;
    const { skipped, skippedCount = skipped.length } = info.source;
    const unused = options.labels === false && file.has('labels') ? { unusedLabels: info.labelDim } : {};
    this.report = { used: this.baseLength, skipped, skippedCount, ...unused };
    const { autoencoder, scale, shift, downFactor } = info;
    this.latents = { autoencoder, scale, shift, downFactor };
    this.std = info.std;
    this.#stored = new Stored(copies * 2 * channels * height * width, dtype);
    this.#isSettled = new Uint8Array(this.baseLength);
    this.#places = new Places((image, { message: reason }) => {
      const name = `image ${this.#entries[image]}`;
      if (options.strict) throw strictError(this.path, name, reason);
      const { report } = this;
      report.used--;
      report.skipped.push({ file: name, reason });
      report.skippedCount = (report.skippedCount ?? 0) + 1;
      options.onSkip?.({ file: name, reason });
      checkMostUsable(this.path, this.baseLength - report.used, this.baseLength, reason);
    });
  }

  /** Brings the items' stretches of the file into the operating system's cache, off the event loop. */
  async ready(indices: ArrayLike<number>): Promise<void> {
    const images = new Set<number>();
    for (let k = 0; k < indices.length; k++) images.add(this.#image(indices[k]));
    await forEachConcurrently([...images], READ_CONCURRENCY, async (place) => {
      const image = await this.#places.fill(
        place,
        this.baseLength,
        (image) => this.#read(image, place),
        this,
      );
      this.#entries[place] = this.#entries[image];
      this.#isSettled[place] = 1;
    });
  }

  async usable(images: ArrayLike<number>): Promise<boolean[]> {
    const results: boolean[] = [];
    await forEachConcurrently(Array.from(images), READ_CONCURRENCY, async (image, k) => {
      results[k] = await this.#places.canUse(image, () => this.#read(image, image));
    });
    return results;
  }

  keepInPlace(images: ArrayLike<number>): void {
    this.#places.keepInPlace(images);
  }

  /** @throws UnusableImage where its values are not finite */
  async #read(image: number, place: number): Promise<void> {
    const { recordBytes, dtype } = this.#stored;
    const bytes = new Uint8Array(recordBytes);
    await this.#file.readBytesInto('moments', this.#entries[image] * recordBytes, bytes);
    if (this.#isSettled[place] === 0 && !allFinite(bytes, dtype))
      throw new UnusableImage('NaN or infinite values');
  }

  gather(indices: ArrayLike<number>, { size, rows, cols }: Crop): Float32Array {
    const { channels: C, height: H, width: W } = this;
    const [cropHeight, cropWidth] = typeof size === 'number' ? [size, size] : [size.height, size.width];
    const N = indices.length;
    const half = N * C * cropHeight * cropWidth;
    const result = new Float32Array(2 * half);
    const stored = this.#stored;
    for (let n = 0; n < N; n++) {
      const [top, left] = [rows[n], cols[n]];
      if (!(top >= 0 && left >= 0 && top + cropHeight <= H && left + cropWidth <= W)) {
        throw new RangeError(
          `internal: crop ${cropHeight} × ${cropWidth} at (${top}, ${left}) leaves latents of ${H} × ${W}`,
        );
      }
      this.#file.bytesInto('moments', this.#entry(indices[n]) * stored.recordBytes, stored.bytes);
      const copy = indices[n] >= this.baseLength ? 1 : 0;
      for (let moment = 0; moment < 2; moment++) {
        let to = moment * half + n * C * cropHeight * cropWidth;
        for (let c = 0; c < C; c++) {
          const plane = ((copy * 2 + moment) * C + c) * H;
          for (let y = top; y < top + cropHeight; y++, to += cropWidth) {
            stored.copyRow((plane + y) * W + left, cropWidth, result, to);
          }
        }
      }
    }
    return result;
  }

  labels(indices: ArrayLike<number>): Float32Array {
    if (this.#labels === null) return new Float32Array(0);
    return labelRows(
      Array.from(indices, (index) => this.labelOf(index)!),
      this.labelDim,
    );
  }

  nameOf(index: number): string {
    return `number ${this.#entry(index)}`;
  }

  labelOf(index: number): Label | null {
    return this.#labels?.[this.#entry(index)] ?? null;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Row of the file that an item comes from. */
  #entry(index: number): number {
    return this.#entries[this.#image(index)];
  }

  #image(index: number): number {
    if (!(index >= 0 && index < this.length)) {
      throw new RangeError(`internal: image ${index} of ${this.length} does not exist`);
    }
    return index % this.baseLength;
  }
}

/** One image's row of the file, and its numbers. */
class Stored {
  readonly recordBytes: number;
  readonly bytes: Uint8Array;
  readonly #floats: Float32Array | null;
  readonly #halves: Uint16Array | null;

  constructor(
    values: number,
    readonly dtype: string,
  ) {
    const isHalf = dtype === 'float16';
    this.recordBytes = values * (isHalf ? 2 : 4);
    this.bytes = new Uint8Array(this.recordBytes);
    this.#halves = isHalf ? new Uint16Array(this.bytes.buffer) : null;
    this.#floats = isHalf ? null : new Float32Array(this.bytes.buffer);
  }

  copyRow(from: number, count: number, target: Float32Array, to: number): void {
    if (this.#floats) target.set(this.#floats.subarray(from, from + count), to);
    else for (let k = 0; k < count; k++) target[to + k] = HALF_VALUES[this.#halves![from + k]];
  }
}

/** The value of each of the 65536 float16 numbers. */
const HALF_VALUES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? Number.NaN
          : Number.POSITIVE_INFINITY
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
});

/**
 * Opens a file of latents that `prepare --latents` made.
 *
 * @throws UserError when it is damaged or something else, or lacks labels or mirrored copies that are asked for
 * @example
 * ```ts
 * await prepare({ source: 'photos', out: 'latents.safetensors', latents: true, autoencoder: 'vae' });
 * const latents = await openLatents('latents.safetensors');
 * console.log(latents.length, latents.channels, latents.height);
 * await latents.close();
 * ```
 */
export async function openLatents(path: string, options: OpenLatentsOptions = {}): Promise<LatentSet> {
  const file = await openTensorFile(path);
  try {
    const set = new LatentSet(file, parseInfo(file, path), options);
    if (options.strict) await checkAll(set, options);
    return set;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads all latents. @throws UserError at the first with NaN or infinite values */
async function checkAll(set: LatentSet, { onProgress, signal }: OpenLatentsOptions): Promise<void> {
  const step = 64;
  for (let from = 0; from < set.baseLength; from += step) {
    signal?.throwIfAborted();
    const to = Math.min(from + step, set.baseLength);
    await set.usable(Array.from({ length: to - from }, (_, i) => from + i));
    onProgress?.(to, set.baseLength, 'scan');
  }
}

function parseInfo(file: SafetensorsFile, path: string): LatentFileInfo {
  const json = readMetadata(file, path);
  const parsed = latentFileSchema.safeParse(json);
  if (!parsed.success) {
    const isOurs = (json as { kind?: unknown }).kind === 'latents';
    const what = isOurs ? 'has a damaged description' : 'does not hold latents';
    throw new UserError(
      'NOT_LATENTS',
      `${path} ${what}; make such a file with \`${programName()} prepare --latents\``,
    );
  }
  const info = parsed.data;
  if (info.formatVersion > LATENTS_FORMAT_VERSION) {
    throw new UserError(
      'LATENTS_TOO_NEW',
      `${path} was written by a newer version of patch-diffusion; update to read it`,
    );
  }
  const { shape, dtype } = file.has('moments') ? file.info('moments') : { shape: [], dtype: '' };
  const [count, copies, two, , height, width] = shape;
  const fits =
    shape.length === 6 &&
    count >= 1 &&
    (copies === 1 || copies === 2) &&
    two === 2 &&
    height * info.downFactor === info.image.height &&
    width * info.downFactor === info.image.width;
  if (!fits || (dtype !== 'float16' && dtype !== 'float32')) {
    throw new UserError(
      'NOT_LATENTS',
      `${path}: its moments ${dtype} [${shape}] are not as described; prepare it again`,
    );
  }
  return info;
}

function readLabels(file: SafetensorsFile, { labelDim }: LatentFileInfo): Label[] | null {
  if (!file.has('labels')) return null;
  const { dtype, shape } = file.info('labels');
  const bytes = file.bytes('labels');
  const count = file.info('moments').shape[0];
  if (dtype === 'int64' && String(shape) === String([count])) {
    const classes = Array.from(new BigInt64Array(bytes.buffer, bytes.byteOffset, count), Number);
    if (classes.every((label) => label >= 0 && label < labelDim)) return classes;
  }
  if (dtype === 'float32' && String(shape) === String([count, labelDim])) {
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, count * labelDim);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      const image = Math.floor(bad / labelDim);
      throw new UserError(
        'NOT_LATENTS',
        `${file.path}: the label of image ${image} has NaN or infinite values; prepare it again, or train without labels`,
      );
    }
    return Array.from({ length: count }, (_, n) =>
      Array.from(values.subarray(n * labelDim, (n + 1) * labelDim)),
    );
  }
  throw new UserError('NOT_LATENTS', `${file.path}: its labels do not fit its images; prepare it again`);
}
