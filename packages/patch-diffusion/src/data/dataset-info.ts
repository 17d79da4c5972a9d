/** What is in a dataset, for `patch-diffusion info`: counts, sizes, labels, and files that cannot be used. */
import { DECODE_CONCURRENCY, forEachConcurrently } from './concurrency.js';
import { type ImageHeader, UnusableImage } from './decode.js';
import type { ImageSource } from './image-source.js';
import { type LabelTable, resolveLabels } from './labels.js';
import { datasetName, sortSkipped } from './names.js';
import { droppedBandsText, firstHeader, isUniform, scanHeaders } from './plan-images.js';
import { openSource } from './source.js';
import type { ImageChannels, Progress, SkippedFile } from './types.js';
import { nothingUsable } from './unusable.js';

export interface DatasetInfo {
  readonly path: string;
  readonly name: string;
  readonly kind: 'folder' | 'zip' | 'idx';
  /** Made by `prepare` or the reference's tool (or idx): all images vouched to be of one size. */
  readonly isPrepared: boolean;
  /** Images that can be used. */
  readonly count: number;
  /** 1 if all are grey, 4 in a prepared dataset with transparency, else 3. */
  readonly channels: ImageChannels;
  /** The sizes that occur, the most frequent first. */
  readonly sizes: { width: number; height: number; count: number }[];
  /** Null without labels; `classes` is null for label vectors. */
  readonly labels: {
    dim: number;
    classes: { index: number; name: string | null; count: number }[] | null;
  } | null;
  readonly skipped: SkippedFile[];
  /** Size of the archive, or of all image files. */
  readonly bytes: number;
  readonly warnings: string[];
}

/**
 * Looks into a dataset. Normally only headers are read (of a prepared dataset only the first usable one); `verify` decodes
 * every image.
 *
 * @throws UserError if there is no usable image
 */
export async function datasetInfo(
  path: string,
  options: { verify?: boolean; onProgress?: Progress; signal?: AbortSignal } = {},
): Promise<DatasetInfo> {
  const { verify = false, onProgress, signal } = options;
  const source = await openSource(path);
  try {
    const isPrepared = isUniform(source);
    const all = [...source.names.keys()];
    const skipped = [...source.skipped];
    const skip = (file: string, error: Error) => {
      if (!(error instanceof UnusableImage)) throw error;
      skipped.push({ file, reason: error.message });
    };
    const vouched = isPrepared && !verify;
    const headers = vouched
      ? await firstOnly(source, skipped)
      : await scanHeaders(source, all, skip, { onProgress, signal });
    if (verify) {
      let done = 0;
      await forEachConcurrently([...headers.keys()], DECODE_CONCURRENCY, async (entry) => {
        signal?.throwIfAborted();
        try {
          await source.decode(entry);
        } catch (error) {
          headers.delete(entry);
          skip(source.names[entry], error as Error);
        }
        onProgress?.(++done, all.length, 'decode');
      });
    }
    if (headers.size === 0) throw nothingUsable(path, skipped);
    const unusable = new Set(skipped.map(({ file }) => file));
    const usable = vouched ? all.filter((entry) => !unusable.has(source.names[entry])) : [...headers.keys()];
    const warnings: string[] = [];
    const extraBands = [...headers.values()].filter((header) => header.hasExtraBand).length;
    if (extraBands > 0) warnings.push(droppedBandsText(extraBands));
    return {
      path,
      name: datasetName(path),
      kind: source.kind,
      isPrepared,
      count: usable.length,
      channels: channelsOf([...headers.values()], isPrepared),
      sizes: vouched
        ? [...headers.values()].map((header) => ({ ...sizeOf(header), count: usable.length }))
        : countSizes(headers),
      labels: summarise(labelsOrWarning(source, warnings), usable),
      skipped: sortSkipped(skipped),
      bytes: source.bytes,
      warnings,
    };
  } finally {
    await source.close();
  }
}

/** What a prepared dataset vouches for: one header speaks for all. */
async function firstOnly(source: ImageSource, skipped: SkippedFile[]): Promise<Map<number, ImageHeader>> {
  const { entry, header, unusable } = await firstHeader(source, source.names.keys());
  skipped.push(...unusable);
  return new Map([[entry, header]]);
}

function channelsOf(headers: readonly ImageHeader[], isPrepared: boolean): ImageChannels {
  if (headers.every((header) => header.isGrey)) return 1;
  return isPrepared && headers[0].hasAlpha ? 4 : 3;
}

/** `info` shows what is there even where training would ask for better labels. */
function labelsOrWarning(source: Parameters<typeof resolveLabels>[0], warnings: string[]): LabelTable | null {
  try {
    return resolveLabels(source);
  } catch (error) {
    warnings.push((error as Error).message);
    return null;
  }
}

function summarise(table: LabelTable | null, entries: readonly number[]): DatasetInfo['labels'] {
  if (table === null) return null;
  if (typeof table.values[0] !== 'number') return { dim: table.dim, classes: null };
  const counts = new Array<number>(table.dim).fill(0);
  for (const entry of entries) counts[table.values[entry] as number]++;
  const classes = counts.map((count, index) => ({ index, name: table.classNames?.[index] ?? null, count }));
  return { dim: table.dim, classes };
}

function sizeOf({ width, height }: ImageHeader) {
  return { width, height };
}

function countSizes(headers: ReadonlyMap<number, ImageHeader>): DatasetInfo['sizes'] {
  const counts = new Map<string, { width: number; height: number; count: number }>();
  for (const header of headers.values()) {
    const key = `${header.width}x${header.height}`;
    const size = counts.get(key);
    if (size) size.count++;
    else counts.set(key, { ...sizeOf(header), count: 1 });
  }
  return [...counts.values()].sort((a, b) => b.count - a.count || a.width - b.width || a.height - b.height);
}
