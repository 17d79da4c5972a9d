/**
 * Opening a dataset for training.
 *
 * A prepared dataset (made by `prepare`, or by the reference's tool) and idx files hold images of one size, so only
 * the first header is read and training can start at once. Any other folder or zip is read as it is: every header is
 * looked at, every image decoded and, with a `resolution`, centre-cropped and resized as `prepare` would do.
 */
import { UserError } from '../common/errors.js';
import { CachedImages } from './cached-images.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from './concurrency.js';
import { type ImageHeader, UnusableImage } from './decode.js';
import { DecodedCache } from './decoded-cache.js';
import { makeImages } from './image-makers.js';
import type { ImageSource } from './image-source.js';
import { type LabelTable, resolveLabels } from './labels.js';
import { datasetName, PREPARED_NAME, sortSkipped } from './names.js';
import type { RawImage } from './resize.js';
import { openSource } from './source.js';
import { chooseSubset } from './subset.js';
import { hasSize, toChannels, transformImage } from './transform.js';
import type {
  ImageChannels,
  ImageReport,
  ImageSet,
  LabelMode,
  Progress,
  Size,
  SkippedFile,
} from './types.js';
import { checkMostUsable, nothingUsable, strictError } from './unusable.js';

export interface OpenImagesOptions {
  /** Side, or width and height, in pixels; images of other sizes are centre-cropped and resized. */
  resolution?: number | Size;
  /** Default: those of a prepared dataset; else 1 if all images are grey, else 3, with transparency laid over white. */
  channels?: ImageChannels;
  /** Default `auto`: use class labels if there are any. */
  labels?: LabelMode;
  /** Adds a mirrored copy of every image. */
  xflip?: boolean;
  /** Uses at most this many images, chosen by `seed`. */
  maxImages?: number;
  /** Seed of the choice of `maxImages`. Default 0. */
  seed?: number;
  /** Stop at the first image that cannot be used, instead of leaving it out. */
  strict?: boolean;
  /**
   * Told of each image of a prepared dataset that turns out to be unusable once the set is open. The next usable one
   * takes its place, so the length of the set does not change.
   */
  onSkip?: (skipped: SkippedFile) => void;
  /** A folder in which the decoded images of sets that are not prepared are kept; the next time they are read from there. */
  cache?: string;
  onProgress?: Progress;
  signal?: AbortSignal;
}

/**
 * Opens a folder, a zip or an idx file as training images.
 *
 * @throws UserError if there are no usable images, sizes are mixed without a `resolution`, or labels are wrong
 * @example
 * ```ts
 * const photos = await openImages('photos', { resolution: 32 });
 * await photos.ready([0, 1]);
 * const corners = photos.gather([0, 1], { size: 8, rows: [0, 0], cols: [0, 0] }); // uint8 [2, 3, 8, 8]
 * await photos.close();
 * ```
 */
export async function openImages(path: string, options: OpenImagesOptions = {}): Promise<ImageSet> {
  const source = await openSource(path);
  try {
    return isUniform(source) ? await openUniform(source, options) : await openAny(source, options);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Whether the source vouches for one size of all images. */
export function isUniform(source: ImageSource): boolean {
  if (source.kind === 'idx') return true;
  return source.datasetJson !== null && source.names.every((name) => PREPARED_NAME.test(name));
}

async function openUniform(source: ImageSource, options: OpenImagesOptions): Promise<ImageSet> {
  const { strict = false } = options;
  const labels = resolveLabels(source, options.labels);
  const skipped: SkippedFile[] = [...source.skipped];
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const { header: first, unusable } = await firstHeader(source, source.names.keys());
  if (strict && unusable[0]) throw strictError(source.path, unusable[0].file, unusable[0].reason);
  const size = toSize(options.resolution) ?? first;
  const channels = options.channels ?? (first.isGrey ? 1 : first.hasAlpha ? 4 : 3);
  const entries = chooseSubset(
    source.names.length,
    options.maxImages ?? source.names.length,
    options.seed ?? 0,
  );
  const report: ImageReport = { used: entries.length, skipped, ...unusedLabels(source, options) };
  return new CachedImages({
    ...common(source, options, size, channels, report),
    labels,
    count: entries.length,
    entries,
    fillsInBackground: true,
    load: async (entry) => {
      const image = await source.decode(entry, channels === 4);
      if (!hasSize(image, first)) throw new UnusableImage(otherSize(image, first));
      if (options.channels === undefined && image.channels > channels) {
        throw new UnusableImage('in colour, where the first image is grey');
      }
      return fit(image, size, channels);
    },
    onUnusable: (entry, { message: reason }) => {
      const file = source.names[entry];
      if (strict) throw strictError(source.path, file, reason);
      report.used--;
      skipped.push({ file, reason });
      options.onSkip?.({ file, reason });
      checkMostUsable(source.path, entries.length - report.used, entries.length, reason);
    },
  });
}

function otherSize(image: Size, first: Size): string {
  return `${image.width} × ${image.height} pixels, where the first image has ${first.width} × ${first.height}`;
}

async function openAny(source: ImageSource, options: OpenImagesOptions): Promise<ImageSet> {
  const { resolution, channels = null, maxImages = null, strict = false } = options;
  // The seed chooses images; without a choice it does not matter, and runs have a new one each time.
  const seed = maxImages === null ? null : (options.seed ?? 0);
  const depends = { resolution: toSize(resolution) ?? null, channels, maxImages, seed, strict };
  const cache = options.cache === undefined ? null : DecodedCache.of(options.cache, source, depends);
  const labels = resolveLabels(source, options.labels);
  const stored = await cache?.read((set) => {
    const report: ImageReport = { used: set.entries.length, skipped: set.skipped };
    if (set.droppedBands > 0) report.droppedBands = set.droppedBands;
    Object.assign(report, unusedLabels(source, options));
    const images = cachedImages(source, options, { ...set, size: set, labels, report });
    return { result: images, pixels: images.pixels };
  });
  if (stored) {
    await stored.completeFromPixels();
    return stored;
  }
  const images = await decodeAny(source, options, labels);
  const { width, height, entries, report } = images;
  const { skipped, droppedBands = 0 } = report;
  const decoded = { width, height, channels: images.channels as ImageChannels };
  await cache?.write({ ...decoded, entries: [...entries], skipped, droppedBands }, images.pixels);
  return images;
}

async function decodeAny(
  source: ImageSource,
  options: OpenImagesOptions,
  labels: LabelTable | null,
): Promise<CachedImages> {
  const { strict = false, signal, onProgress } = options;
  const skipped: SkippedFile[] = [...source.skipped];
  const skip = (file: string, error: Error) => {
    if (!(error instanceof UnusableImage)) throw error;
    if (strict) throw strictError(source.path, file, error.message);
    skipped.push({ file, reason: error.message });
  };
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const headers = await scanHeaders(source, [...source.names.keys()], skip, { signal, onProgress });
  const wanted = toSize(options.resolution);
  const usable = [...headers.keys()].sort((a, b) => a - b);
  if (usable.length === 0) throw nothingUsable(source.path, skipped);
  if (wanted === undefined) checkOneSize(source, usable, headers);
  const chosen = chooseSubset(usable.length, options.maxImages ?? usable.length, options.seed ?? 0);
  const entries = Array.from(chosen, (i) => usable[i]);
  const size = wanted ?? headers.get(entries[0])!;
  const channels = options.channels ?? (entries.every((entry) => headers.get(entry)!.isGrey) ? 1 : 3);
  const report: ImageReport = { used: 0, skipped, ...unusedLabels(source, options) };
  const images = cachedImages(source, options, { entries, size, channels, labels, report });
  await images.takeAll(
    pixelsOf(source, entries, { size, channels, report, signal }),
    (entry, error) => skip(source.names[entry], error),
    (done) => onProgress?.(done, entries.length, 'decode'),
  );
  if (images.length === 0) throw nothingUsable(source.path, skipped);
  report.used = images.baseLength;
  sortSkipped(skipped);
  return images;
}

/** Room for images that are all decoded, or read from a cache, before training begins. */
function cachedImages(
  source: ImageSource,
  options: OpenImagesOptions,
  set: {
    readonly entries: readonly number[];
    readonly size: Size;
    readonly channels: ImageChannels;
    readonly labels: LabelTable | null;
    readonly report: ImageReport;
  },
): CachedImages {
  const { entries, size, channels, labels, report } = set;
  return new CachedImages({
    ...common(source, options, size, channels, report),
    labels,
    count: entries.length,
    entries,
    load: () => Promise.reject(new Error('internal: all images are in memory')),
  });
}

/** Centre crop and Lanczos to `size` where needed, then to `channels`: in the order in which `prepare` does it. */
async function* pixelsOf(
  source: ImageSource,
  entries: readonly number[],
  made: {
    readonly size: Size;
    readonly channels: ImageChannels;
    readonly report: ImageReport;
    readonly signal: AbortSignal | undefined;
  },
): AsyncGenerator<Uint8Array | Error> {
  const { size, channels, report, signal } = made;
  const spec = {
    size: { width: size.width, height: size.height },
    channels,
    transform: 'center-crop',
    png: false,
  } as const;
  for await (const image of makeImages(source, spec, entries)) {
    signal?.throwIfAborted();
    if (image instanceof Error) {
      yield image;
      continue;
    }
    if (image.hasDroppedBand) report.droppedBands = (report.droppedBands ?? 0) + 1;
    yield image.data;
  }
}

/** What is said of images without a band of their files. */
export function droppedBandsText(count: number): string {
  return `${count} images have a band that is neither colour nor opacity; it is left out (of four bands --channels 4 takes all)`;
}

/** The labels that a source has when none are asked for. */
function unusedLabels(source: ImageSource, { labels }: OpenImagesOptions): Pick<ImageReport, 'unusedLabels'> {
  if (labels !== false) return {};
  try {
    const found = resolveLabels(source, 'auto');
    return found ? { unusedLabels: found.dim } : {};
  } catch (error) {
    // Labels that are wrong matter to nobody who does not use them.
    if (error instanceof UserError) return {};
    throw error;
  }
}

/** Centre crop and Lanczos to `size` if needed, then to `channels`: in the order in which `prepare` does it. */
function fit(image: RawImage, size: Size, channels: ImageChannels): RawImage {
  const resized = hasSize(image, size) ? image : transformImage(image, 'center-crop', size);
  return toChannels(resized, channels);
}

/**
 * The first header that can be read, for a source whose images all have one size, and the files before it.
 *
 * @throws UserError if there is none
 */
export async function firstHeader(
  source: ImageSource,
  entries: Iterable<number>,
): Promise<{ entry: number; header: ImageHeader; unusable: SkippedFile[] }> {
  const unusable: SkippedFile[] = [];
  for (const entry of entries) {
    try {
      return { entry, header: await source.header(entry), unusable };
    } catch (error) {
      if (!(error instanceof UnusableImage)) throw error;
      unusable.push({ file: source.names[entry], reason: error.message });
    }
  }
  throw nothingUsable(source.path, unusable);
}

/** Headers of images by their index in the source; images without a usable header are handed to `skip`. */
export async function scanHeaders(
  source: ImageSource,
  entries: readonly number[],
  skip: (file: string, error: Error) => void,
  { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: Progress | undefined } = {},
): Promise<Map<number, ImageHeader>> {
  const headers = new Map<number, ImageHeader>();
  let done = 0;
  await forEachConcurrently(entries, DECODE_CONCURRENCY, async (entry) => {
    signal?.throwIfAborted();
    try {
      headers.set(entry, await source.header(entry));
    } catch (error) {
      skip(source.names[entry], error as Error);
    }
    onProgress?.(++done, entries.length, 'scan');
  });
  return headers;
}

/** @throws UserError naming two images of different size and the remedy */
export function checkOneSize(
  source: ImageSource,
  usable: readonly number[],
  headers: ReadonlyMap<number, ImageHeader>,
): void {
  const first = headers.get(usable[0])!;
  const other = usable.find((entry) => !hasSize(headers.get(entry)!, first));
  if (other === undefined) return;
  const { width, height } = headers.get(other)!;
  throw new UserError(
    'DATA_MIXED_SIZES',
    `The images in ${source.path} have different sizes (${source.names[usable[0]]} is ${first.width} × ${first.height}, ` +
      `${source.names[other]} is ${width} × ${height}); say which size you want, for example --resolution 64`,
  );
}

/** @throws UserError unless both sides are whole numbers from 1 to 16384 */
export function toSize(resolution: number | Size | undefined): Size | undefined {
  if (resolution === undefined) return undefined;
  const size = typeof resolution === 'number' ? { width: resolution, height: resolution } : resolution;
  for (const side of [size.width, size.height]) {
    if (!Number.isInteger(side) || side < 1 || side > 16384) {
      throw new UserError(
        'DATA_RESOLUTION',
        `A resolution of ${side} pixels is not possible; give 64 or 96x64, say`,
        {
          exitCode: 2,
        },
      );
    }
  }
  return size;
}

function common(
  source: ImageSource,
  options: OpenImagesOptions,
  size: Size,
  channels: ImageChannels,
  report: ImageReport,
) {
  return {
    name: datasetName(source.path),
    path: source.path,
    names: source.names,
    channels,
    height: size.height,
    width: size.width,
    xflip: options.xflip ?? false,
    report,
    release: () => source.close(),
  };
}
