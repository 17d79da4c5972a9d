/**
 * What `prepare` is going to do with each image of a source, decided before the first one is decoded; and the images
 * themselves, made a few at a time, in order.
 */

import { UserError } from '../common/errors.js';
import type { PrepareOptions } from '../config/prepare-options.js';
import { type ImageHeader, UnusableImage } from '../data/decode.js';
import { makeImages } from '../data/image-makers.js';
import type { ImageSource } from '../data/image-source.js';
import { type LabelTable, resolveLabels } from '../data/labels.js';
import { comparePaths } from '../data/names.js';
import {
  checkOneSize,
  droppedBandsText,
  firstHeader,
  isUniform,
  scanHeaders,
  toSize,
} from '../data/plan-images.js';
import type { ImageChannels, Progress, Size, SkippedFile } from '../data/types.js';
import { nothingUsable, strictError } from '../data/unusable.js';

export interface Listeners {
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** What is to be written, decided before the first image is. */
export interface Plan {
  settings: PrepareOptions;
  /** Indices in the source, in the order of the output. */
  entries: number[];
  size: Size;
  channels: ImageChannels;
  labels: LabelTable | null;
  skip: (file: string, error: Error) => void;
  skipped: SkippedFile[];
  warnings: string[];
}

/** @throws UserError when size, channels or labels cannot be told */
export async function makePlan(
  source: ImageSource,
  settings: PrepareOptions,
  listeners: Listeners,
): Promise<Plan> {
  const { strict, maxImages } = settings;
  const wanted = toSize(settings.resolution ?? undefined);
  const warnings: string[] = [];
  const labels = labelsForAll(source, settings, warnings);
  let entries = Array.from(source.names.keys());
  // Zips are read in plain string order, folders path by path, as the reference does.
  if (source.kind === 'folder') entries.sort((a, b) => comparePaths(source.names[a], source.names[b]));
  entries = entries.slice(0, maxImages ?? undefined);
  const skipped: SkippedFile[] = [...source.skipped];
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const skip = (file: string, error: Error) => {
    if (!(error instanceof UnusableImage)) throw error;
    if (strict) throw strictError(source.path, file, error.message);
    skipped.push({ file, reason: error.message });
  };
  let size = wanted;
  let channels = settings.channels as ImageChannels | null;
  if (size === undefined || channels === null) {
    const headers = await headersOf(source, entries, strict, listeners);
    const usable = entries.filter((entry) => headers.has(entry));
    if (size === undefined) {
      checkOneSize(source, usable, headers);
      size = headers.get(usable[0])!;
    }
    channels ??= usable.every((entry) => headers.get(entry)!.isGrey) ? 1 : 3;
  }
  return { settings, entries, size, channels, labels, skip, skipped, warnings };
}

/**
 * The headers that tell size and channels: of a source of uniform images the first, else all. Files that cannot be
 * used are met again, and reported, when they are to be decoded.
 */
async function headersOf(
  source: ImageSource,
  entries: readonly number[],
  strict: boolean,
  listeners: Listeners,
): Promise<ReadonlyMap<number, ImageHeader>> {
  const unusable: SkippedFile[] = [];
  let headers: ReadonlyMap<number, ImageHeader>;
  if (isUniform(source)) {
    const first = await firstHeader(source, entries);
    headers = new Map([[first.entry, first.header]]);
    unusable.push(...first.unusable);
  } else {
    const note = (file: string, error: Error) => {
      if (!(error instanceof UnusableImage)) throw error;
      unusable.push({ file, reason: error.message });
    };
    headers = await scanHeaders(source, entries, note, listeners);
  }
  if (strict && unusable[0]) throw strictError(source.path, unusable[0].file, unusable[0].reason);
  if (headers.size === 0) throw nothingUsable(source.path, unusable);
  return headers;
}

function labelsForAll(source: ImageSource, settings: PrepareOptions, warnings: string[]): LabelTable | null {
  try {
    return resolveLabels(source, settings.labels);
  } catch (error) {
    const isIncomplete = error instanceof UserError && error.code === 'DATA_LABELS_INCOMPLETE';
    if (settings.labels !== 'auto' || !isIncomplete) throw error;
    warnings.push(`${error.message} (written without labels)`);
    return null;
  }
}

/** One image of the plan's size and channels. */
export interface Prepared {
  /** Index in the source. */
  readonly entry: number;
  /** Position in the plan; those of images that were left out are missing. */
  readonly position: number;
  /** Pixels [H, W, C], or a PNG file. */
  readonly data: Uint8Array;
}

/**
 * The images of a plan in its order; those that cannot be used are left out and reported.
 *
 * @param form what is made of each
 */
export async function* preparedImages(
  source: ImageSource,
  plan: Plan,
  form: 'pixels' | 'png',
  signal?: AbortSignal,
): AsyncGenerator<Prepared> {
  const { entries, settings, size, channels } = plan;
  const spec = { size, channels, transform: settings.transform, png: form === 'png' };
  let position = -1;
  let count = 0;
  let enlarged = 0;
  let droppedBands = 0;
  for await (const made of makeImages(source, spec, entries)) {
    signal?.throwIfAborted();
    const entry = entries[++position];
    if (made instanceof Error) {
      plan.skip(source.names[entry], made);
      continue;
    }
    if (made.hasDroppedBand) droppedBands++;
    if (made.isEnlarged) enlarged++;
    count++;
    yield { entry, position, data: made.data };
  }
  if (count === 0) throw nothingUsable(source.path, plan.skipped);
  if (droppedBands > 0) plan.warnings.push(droppedBandsText(droppedBands));
  if (enlarged > 0)
    plan.warnings.push(
      `${enlarged} images are smaller than ${size.width} × ${size.height} and were enlarged`,
    );
}
