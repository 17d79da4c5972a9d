/**
 * Images in memory: uint8 [N, C, H, W], filled image by image, in the background or on demand, and read crop by crop.
 *
 * Training may start as soon as its first batch is decoded; the rest follows while it runs. What a batch asks for
 * goes before the background work. An image that turns out to be unusable then is replaced by the next usable one,
 * pixels and label: the number of images is settled when training begins.
 */
import { type Label, labelRows } from '../diffusion/labels.js';
import type { Crop } from '../patches/patch-source.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from './concurrency.js';
import type { UnusableImage } from './decode.js';
import type { LabelTable } from './labels.js';
import { PixelBlocks } from './pixel-blocks.js';
import { Places } from './places.js';
import type { RawImage } from './resize.js';
import type { ImageReport, ImageSet } from './types.js';

export interface CachedImagesOptions {
  name: string;
  path: string;
  /** Number of images, without mirrored copies. */
  count: number;
  channels: number;
  height: number;
  width: number;
  xflip: boolean;
  /** Labels by index in the source, or null. */
  labels: LabelTable | null;
  report: ImageReport;
  /** Index in the source of each image. */
  entries: ArrayLike<number>;
  /** Names of the images of the source, where they have some. */
  names?: readonly string[];
  /** Pixels of a source image, of exactly the size above. */
  load: (entry: number) => Promise<RawImage>;
  /**
   * Told once of each source image that cannot be used, whose place another takes; may throw to stop at it. Without
   * it, such an image is an error.
   */
  onUnusable?: (entry: number, error: UnusableImage) => void;
  /** From the first `ready` on, what is not yet in memory is decoded, in order, behind what is asked for. */
  fillsInBackground?: boolean;
  /** Releases what `load` needs. */
  release: () => Promise<void>;
}

/** An {@link ImageSet} over a memory cache. */
export class CachedImages implements ImageSet {
  readonly name: string;
  readonly path: string;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  readonly report: ImageReport;
  readonly latents = null;
  readonly std = null;
  #count: number;
  readonly #copies: 1 | 2;
  readonly #table: LabelTable | null;
  #entries: Int32Array;
  readonly #names: readonly string[] | undefined;
  readonly #load: CachedImagesOptions['load'];
  readonly #fillsInBackground: boolean;
  #release: (() => Promise<void>) | null;

  readonly #pixels: PixelBlocks;
  /** 1 where an image is in memory. */
  readonly #loaded: Uint8Array;
  readonly #places: Places;
  readonly #loading = new Map<number, Promise<void>>();
  #background: Promise<void> | null = null;
  /** What stopped the background; the next `ready` raises it. */
  #failure: { readonly error: unknown } | null = null;
  /** Calls of `ready` that are under way; the background waits for them. */
  #urgent = 0;
  #closed = false;

  /** @throws UserError if the images do not fit into memory */
  constructor(options: CachedImagesOptions) {
    const { count, channels, height, width } = options;
    this.name = options.name;
    this.path = options.path;
    this.channels = channels;
    this.height = height;
    this.width = width;
    this.#count = count;
    this.#copies = options.xflip ? 2 : 1;
    this.#table = options.labels;
    this.labelDim = options.labels?.dim ?? 0;
    this.classNames = options.labels?.classNames ?? null;
    this.report = options.report;
    this.#entries = Int32Array.from(options.entries);
    this.#names = options.names;
    this.#load = options.load;
    const { onUnusable } = options;
    this.#places = new Places(onUnusable && ((image, error) => onUnusable(this.#entries[image], error)));
    this.#fillsInBackground = options.fillsInBackground ?? false;
    this.#release = options.release;
    this.#pixels = new PixelBlocks(count, channels * height * width, options.path);
    this.#loaded = new Uint8Array(count);
  }

  get baseLength(): number {
    return this.#count;
  }

  get length(): number {
    return this.#count * this.#copies;
  }

  async ready(indices: ArrayLike<number>): Promise<void> {
    if (this.#failure !== null) throw this.#failure.error;
    const missing = new Set<number>();
    for (let k = 0; k < indices.length; k++) {
      const image = this.#baseIndex(indices[k]);
      if (this.#loaded[image] === 0) missing.add(image);
    }
    if (missing.size === 0) return;
    this.#urgent++;
    if (this.#fillsInBackground) this.#background ??= this.#fill();
    try {
      await forEachConcurrently([...missing], DECODE_CONCURRENCY, (image) => this.#loadOnce(image));
    } finally {
      this.#urgent--;
    }
  }

  gather(indices: ArrayLike<number>, crop: Crop, out?: Uint8Array): Uint8Array {
    const { channels, height, width } = this;
    const { rows, cols, size } = crop;
    const [cropHeight, cropWidth] = typeof size === 'number' ? [size, size] : [size.height, size.width];
    const n = indices.length;
    const total = n * channels * cropHeight * cropWidth;
    const result = out ?? new Uint8Array(total);
    if (result.length !== total || rows.length !== n || cols.length !== n) {
      throw new RangeError(
        `internal: gather of ${n} crops got ${rows.length} rows, ${cols.length} columns and room for ${result.length} of ${total} values`,
      );
    }
    let to = 0;
    for (let k = 0; k < n; k++) {
      const image = this.#baseIndex(indices[k]);
      const isMirrored = indices[k] >= this.#count;
      const [top, left] = [rows[k], cols[k]];
      if (!(top >= 0 && left >= 0 && top + cropHeight <= height && left + cropWidth <= width)) {
        throw new RangeError(
          `internal: crop ${cropHeight} × ${cropWidth} at (${top}, ${left}) leaves the image of ${height} × ${width}`,
        );
      }
      if (this.#loaded[image] === 0)
        throw new RangeError(`internal: image ${image} gathered before it was ready`);
      const pixels = this.#pixels.block(image);
      const start = this.#pixels.offset(image);
      for (let c = 0; c < channels; c++) {
        const plane = start + c * height * width;
        for (let y = 0; y < cropHeight; y++) {
          const row = plane + (top + y) * width;
          if (isMirrored) {
            for (let from = row + width - 1 - left, end = to + cropWidth; to < end; )
              result[to++] = pixels[from--];
          } else if (cropWidth < 96) {
            // For short rows a plain loop beats the cost of making a sub-array.
            for (let from = row + left, end = to + cropWidth; to < end; ) result[to++] = pixels[from++];
          } else {
            result.set(pixels.subarray(row + left, row + left + cropWidth), to);
            to += cropWidth;
          }
        }
      }
    }
    return result;
  }

  labels(indices: ArrayLike<number>): Float32Array {
    if (this.#table === null) return new Float32Array(0);
    return labelRows(
      Array.from(indices, (index) => this.labelOf(index)!),
      this.labelDim,
    );
  }

  nameOf(index: number): string {
    const entry = this.#entries[this.#baseIndex(index)];
    return this.#names?.[entry] ?? `number ${entry}`;
  }

  labelOf(index: number): Label | null {
    return this.#table?.values[this.#entries[this.#baseIndex(index)]] ?? null;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#background;
    await Promise.allSettled(this.#loading.values());
    await this.#releaseSource();
  }

  /**
   * Decodes everything now and drops the images that fail, with the reason in the report.
   *
   * @param nameOf name of a source image, for the report
   * @param onFailure may throw to stop at the first failure
   */
  async loadAll(
    nameOf: (entry: number) => string,
    onFailure: (file: string, error: Error) => void,
    onProgress: (done: number) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const failed = new Set<number>();
    let done = 0;
    const all = Array.from({ length: this.#count }, (_, i) => i);
    await forEachConcurrently(all, DECODE_CONCURRENCY, async (image) => {
      signal?.throwIfAborted();
      try {
        await this.#loadOnce(image);
      } catch (error) {
        onFailure(nameOf(this.#entries[image]), error as Error);
        failed.add(image);
      }
      onProgress(++done);
    });
    if (failed.size > 0) this.#drop(failed);
    await this.#releaseSource();
  }

  /**
   * Takes images that are made elsewhere, and drops those that failed.
   *
   * @param images pixels [H, W, C] of each, or why there are none, in order
   * @param onFailure may throw to stop at the first failure
   */
  async takeAll(
    images: AsyncIterable<Uint8Array | Error>,
    onFailure: (entry: number, error: Error) => void,
    onProgress: (done: number) => void,
  ): Promise<void> {
    const { width, height, channels } = this;
    const failed = new Set<number>();
    let image = 0;
    for await (const data of images) {
      if (data instanceof Error) {
        onFailure(this.#entries[image], data);
        failed.add(image);
      } else {
        this.#store({ data, width, height, channels }, image);
      }
      onProgress(++image);
    }
    if (failed.size > 0) this.#drop(failed);
    await this.#releaseSource();
  }

  /** Index in the source of each image. */
  get entries(): readonly number[] {
    return Array.from(this.#entries);
  }

  /** The memory of all pixels, in parts. */
  get pixels(): readonly Uint8Array[] {
    return this.#pixels.parts(this.#count);
  }

  /** All pixels have been put into {@link pixels}. */
  async completeFromPixels(): Promise<void> {
    this.#loaded.fill(1);
    await this.#releaseSource();
  }

  async usable(images: ArrayLike<number>): Promise<boolean[]> {
    const results: boolean[] = [];
    await forEachConcurrently(Array.from(images), DECODE_CONCURRENCY, async (image, k) => {
      results[k] = await this.#places.canUse(image, () => this.#loadInto(image, image));
    });
    return results;
  }

  keepInPlace(images: ArrayLike<number>): void {
    this.#places.keepInPlace(images);
  }

  async #fill(): Promise<void> {
    let next = 0;
    const worker = async () => {
      while (next < this.#count && !this.#closed && this.#failure === null) {
        if (this.#urgent > 0) {
          await Promise.allSettled(this.#loading.values());
          await new Promise((resolve) => setImmediate(resolve));
          continue;
        }
        const image = next++;
        if (this.#loaded[image] === 1) continue;
        await this.#loadOnce(image).catch((error: unknown) => {
          this.#failure ??= { error };
        });
      }
    };
    await Promise.all(Array.from({ length: DECODE_CONCURRENCY }, worker));
    if (!this.#closed && this.#failure === null) await this.#releaseSource();
  }

  #loadOnce(image: number): Promise<void> {
    if (this.#loaded[image] === 1) return Promise.resolve();
    let promise = this.#loading.get(image);
    if (promise === undefined) {
      promise = this.#loadImage(image).finally(() => this.#loading.delete(image));
      this.#loading.set(image, promise);
    }
    return promise;
  }

  /** Fills a slot with its own image or, where that cannot be used, with the next one that can. */
  async #loadImage(slot: number): Promise<void> {
    const image = await this.#places.fill(slot, this.#count, (image) => this.#loadInto(slot, image), this);
    this.#entries[slot] = this.#entries[image];
  }

  async #loadInto(slot: number, image: number): Promise<void> {
    if (slot !== image || this.#loaded[slot] === 0) this.#store(await this.#load(this.#entries[image]), slot);
  }

  #store({ data, width, height, channels }: RawImage, slot: number): void {
    if (width !== this.width || height !== this.height || channels !== this.channels) {
      throw new RangeError(
        `internal: loaded ${width} × ${height} × ${channels} into a cache of another size`,
      );
    }
    toPlanar(data, channels, this.#pixels.block(slot), this.#pixels.offset(slot));
    this.#loaded[slot] = 1;
  }

  #drop(failed: ReadonlySet<number>): void {
    let kept = 0;
    for (let image = 0; image < this.#count; image++) {
      if (failed.has(image)) continue;
      if (image !== kept) this.#pixels.copy(image, kept);
      this.#entries[kept++] = this.#entries[image];
    }
    this.#count = kept;
    this.#pixels.truncate(kept);
    this.#entries = this.#entries.slice(0, kept);
    this.#loaded.fill(1, 0, kept);
  }

  async #releaseSource(): Promise<void> {
    const release = this.#release;
    this.#release = null;
    await release?.();
  }

  #baseIndex(index: number): number {
    if (!(index >= 0 && index < this.length)) {
      throw new RangeError(`internal: image ${index} of ${this.length} does not exist`);
    }
    return index >= this.#count ? index - this.#count : index;
  }
}

/** [H, W, C] at the start of `source` to [C, H, W] at `offset` of `target`. */
function toPlanar(source: Uint8Array, channels: number, target: Uint8Array, offset: number): void {
  if (channels === 1) {
    target.set(source, offset);
    return;
  }
  const plane = source.length / channels;
  for (let c = 0; c < channels; c++) {
    for (let from = c, to = offset + c * plane; from < source.length; from += channels)
      target[to++] = source[from];
  }
}
