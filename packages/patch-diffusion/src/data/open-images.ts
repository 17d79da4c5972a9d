/**
 * Opening a dataset for training.
 *
 * A prepared dataset (made by `prepare`, or by the reference's tool) and idx files hold images of one size, so only
 * the first header is read and training can start at once. Any other folder or zip is read as it is: every header is
 * looked at, every image decoded and, with a `resolution`, centre-cropped and resized as `prepare` would do.
 */
import { CachedImages } from './cached-images.js';
import { DecodedCache } from './decoded-cache.js';
import { makeImages } from './image-makers.js';
import type { ImageSource } from './image-source.js';
import { type LabelTable, resolveLabels } from './labels.js';
import { datasetName, sortSkipped } from './names.js';
import {
  isUniform,
  loadImage,
  type OpenImagesOptions,
  planAny,
  planUniform,
  skipOrThrow,
  toSize,
  unusedLabels,
} from './plan-images.js';
import { openSource } from './source.js';
import type { ImageChannels, ImageReport, ImageSet, Size } from './types.js';
import { checkMostUsable, nothingUsable, strictError } from './unusable.js';

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

async function openUniform(source: ImageSource, options: OpenImagesOptions): Promise<ImageSet> {
  const { strict = false } = options;
  const plan = await planUniform(source, options);
  const { size, channels, labels, entries, skipped } = plan;
  const report: ImageReport = { used: entries.length, skipped, ...unusedLabels(source, options) };
  return new CachedImages({
    ...common(source, options, size, channels, report),
    labels,
    count: entries.length,
    entries,
    fillsInBackground: true,
    load: (entry) => loadImage(source, plan, entry),
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

async function openAny(source: ImageSource, options: OpenImagesOptions): Promise<ImageSet> {
  const { resolution, channels = null, maxImages = null, strict = false } = options;
  // The seed chooses images; without a choice it does not matter, and runs have a new one each time.
  const seed = maxImages === null ? null : (options.seed ?? 0);
  const depends = { resolution: toSize(resolution) ?? null, channels, maxImages, seed, strict };
  const cache = options.cache === undefined ? null : DecodedCache.of(options.cache, source, depends);
  const stored = await cache?.read((set) => {
    const labels = resolveLabels(source, options.labels);
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
  const images = await decodeAny(source, options);
  const { width, height, entries, report } = images;
  const { skipped, droppedBands = 0 } = report;
  const decoded = { width, height, channels: images.channels as ImageChannels };
  await cache?.write({ ...decoded, entries: [...entries], skipped, droppedBands }, images.pixels);
  return images;
}

async function decodeAny(source: ImageSource, options: OpenImagesOptions): Promise<CachedImages> {
  const { strict = false, signal, onProgress } = options;
  const { entries, size, channels, labels, skipped } = await planAny(source, options);
  const skip = (file: string, error: Error) => skipOrThrow(source, skipped, strict, file, error);
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
