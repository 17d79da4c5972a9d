/**
 * What of a source is trained on, settled before any image is decoded: which images, of which size, with which channels and
 * labels; and one such image, decoded.
 */
import { UserError } from '../common/errors.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from './concurrency.js';
import { type ImageHeader, UnusableImage } from './decode.js';
import type { ImageSource } from './image-source.js';
import { type LabelTable, resolveLabels } from './labels.js';
import { PREPARED_NAME } from './names.js';
import type { RawImage } from './resize.js';
import { chooseSubset } from './subset.js';
import { hasSize, toChannels, transformImage } from './transform.js';
import type { ImageChannels, ImageReport, LabelMode, Progress, Size, SkippedFile } from './types.js';
import { nothingUsable, strictError } from './unusable.js';

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

/** Which images are used, and how. */
export interface ImagePlan {
  /** Indices in the source. */
  readonly entries: readonly number[];
  /** What every image becomes. */
  readonly size: Size;
  readonly channels: ImageChannels;
  readonly labels: LabelTable | null;
  /** What cannot be used, as far as headers tell; those that cannot be decoded are added later. */
  readonly skipped: SkippedFile[];
  /** Of the images that were looked at, by index in the source; of a prepared dataset only the first. */
  readonly headers: ReadonlyMap<number, ImageHeader>;
  /** Size and colours that all images must have, where the source vouches for them. */
  readonly alike: { readonly size: Size; readonly channels: ImageChannels } | null;
}

/** Whether the source vouches for one size of all images. */
export function isUniform(source: ImageSource): boolean {
  if (source.kind === 'idx') return true;
  return source.datasetJson !== null && source.names.every((name) => PREPARED_NAME.test(name));
}

/** Plans by the first header. @throws UserError if there is no usable image, or labels are wrong */
export async function planUniform(source: ImageSource, options: OpenImagesOptions): Promise<ImagePlan> {
  const { strict = false } = options;
  const labels = resolveLabels(source, options.labels);
  const skipped: SkippedFile[] = [...source.skipped];
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const { entry, header: first, unusable } = await firstHeader(source, source.names.keys());
  if (strict && unusable[0]) throw strictError(source.path, unusable[0].file, unusable[0].reason);
  const ownChannels = first.isGrey ? 1 : first.hasAlpha ? 4 : 3;
  const count = source.names.length;
  return {
    entries: Array.from(chooseSubset(count, options.maxImages ?? count, options.seed ?? 0)),
    size: toSize(options.resolution) ?? first,
    channels: options.channels ?? ownChannels,
    ...{ labels, skipped, headers: new Map([[entry, first]]) },
    // Channels that were asked for are made of any colours.
    alike: { size: first, channels: options.channels === undefined ? ownChannels : 4 },
  };
}

/** Plans by all headers. @throws UserError if there is no usable image, sizes are mixed, or labels are wrong */
export async function planAny(source: ImageSource, options: OpenImagesOptions): Promise<ImagePlan> {
  const { strict = false, signal, onProgress } = options;
  const labels = resolveLabels(source, options.labels);
  const skipped: SkippedFile[] = [...source.skipped];
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const skip = (file: string, error: Error) => skipOrThrow(source, skipped, strict, file, error);
  const headers = await scanHeaders(source, [...source.names.keys()], skip, { signal, onProgress });
  const wanted = toSize(options.resolution);
  const usable = [...headers.keys()].sort((a, b) => a - b);
  if (usable.length === 0) throw nothingUsable(source.path, skipped);
  if (wanted === undefined) checkOneSize(source, usable, headers);
  const chosen = chooseSubset(usable.length, options.maxImages ?? usable.length, options.seed ?? 0);
  const entries = Array.from(chosen, (i) => usable[i]);
  return {
    ...{ entries, labels, skipped, headers, alike: null },
    size: wanted ?? headers.get(entries[0])!,
    channels: options.channels ?? (entries.every((entry) => headers.get(entry)!.isGrey) ? 1 : 3),
  };
}

/** Notes a file that cannot be used. @throws the error where it is of another kind, or nothing may be left out */
export function skipOrThrow(
  { path }: ImageSource,
  skipped: SkippedFile[],
  strict: boolean,
  file: string,
  error: Error,
): void {
  if (!(error instanceof UnusableImage)) throw error;
  if (strict) throw strictError(path, file, error.message);
  skipped.push({ file, reason: error.message });
}

/** Pixels of one image as it is trained on. @throws UnusableImage */
export async function loadImage(
  source: ImageSource,
  { size, channels, alike }: ImagePlan,
  entry: number,
): Promise<RawImage> {
  const image = await source.decode(entry, { alpha: channels === 4, ...(alike ? {} : { size }) });
  if (alike && !hasSize(image, alike.size)) throw new UnusableImage(otherSize(image, alike.size));
  if (alike && image.channels > alike.channels)
    throw new UnusableImage('in colour, where the first image is grey');
  return fit(image, size, channels);
}

function otherSize(image: Size, first: Size): string {
  return `${image.width} × ${image.height} pixels, where the first image has ${first.width} × ${first.height}`;
}

/** Centre crop and Lanczos to `size` if needed, then to `channels`: in the order in which `prepare` does it. */
function fit(image: RawImage, size: Size, channels: ImageChannels): RawImage {
  const resized = hasSize(image, size) ? image : transformImage(image, 'center-crop', size);
  return toChannels(resized, channels);
}

/** The labels that a source has when none are asked for. */
export function unusedLabels(
  source: ImageSource,
  { labels }: OpenImagesOptions,
): Pick<ImageReport, 'unusedLabels'> {
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

/** What is said of images without a band of their files. */
export function droppedBandsText(count: number): string {
  return `${count} images have a band that is neither colour nor opacity; it is left out (of four bands --channels 4 takes all)`;
}
