/**
 * `prepare`: makes a dataset of uniform images out of a folder, a zip or an idx file, once and for all.
 *
 * The result is what the reference's dataset tool makes: the same names, labels, order and pixels. Beyond it, any
 * size and proportions may be had, files that cannot be used are left out and listed, and all formats are converted
 * properly (see decode.ts). Images are decoded a few at a time and written in order, so memory stays bounded.
 */
import { resolve } from 'node:path';
import { UserError } from '../errors.js';
import { DECODE_CONCURRENCY } from './cached-images.js';
import { createDatasetWriter, type DatasetWriter } from './dataset-writer.js';
import { UnusableImage } from './decode.js';
import { type Label, type LabelTable, resolveLabels } from './labels.js';
import { comparePaths, preparedName, sortSkipped } from './names.js';
import { checkOneSize, isUniform, nothingUsable, scanHeaders, strictError, toSize } from './open-images.js';
import { encodePng } from './png.js';
import { type PrepareOptions, type PrepareSettings, prepareOptionsSchema } from './prepare-options.js';
import { type ImageSource, openSource } from './source.js';
import { hasSize, toChannels, transformedSize, transformImage } from './transform.js';
import type { Progress, Size, SkippedFile } from './types.js';

/** What `prepare` made. */
export interface PrepareReport {
  readonly out: string;
  /** Images written. */
  readonly used: number;
  readonly skipped: SkippedFile[];
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** Number of classes or length of the label vectors; 0 without labels. */
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  /** Size of the result. */
  readonly bytes: number;
  readonly warnings: string[];
}

/**
 * Makes a dataset. Nothing is left behind on failure or when `signal` aborts.
 *
 * @throws UserError for everything the user can mend; the signal's reason when aborted
 */
export async function prepare(
  options: PrepareOptions,
  { onProgress, signal }: { onProgress?: Progress; signal?: AbortSignal } = {},
): Promise<PrepareReport> {
  const settings = parseOptions(options);
  if (resolve(settings.source) === resolve(settings.out)) {
    throw new UserError('OUT_EXISTS', `The output ${settings.out} is the source itself; choose another name`);
  }
  const source = await openSource(settings.source);
  try {
    const plan = await makePlan(source, settings, { onProgress, signal });
    const writer = await createDatasetWriter(settings.out, { force: settings.force });
    try {
      const written = await writeImages(source, plan, writer, { onProgress, signal });
      signal?.throwIfAborted();
      const bytes = await writer.finish();
      const { width, height } = transformedSize(settings.transform, plan.size);
      return {
        out: settings.out,
        used: written,
        skipped: sortSkipped(plan.skipped),
        width,
        height,
        channels: plan.channels,
        labelDim: plan.labels?.dim ?? 0,
        classNames: plan.labels?.classNames ?? null,
        bytes,
        warnings: plan.warnings,
      };
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    await source.close();
  }
}

interface Listeners {
  onProgress?: Progress | undefined;
  signal?: AbortSignal | undefined;
}

/** What is to be written, decided before the first image is. */
interface Plan {
  settings: PrepareSettings;
  /** Indices in the source, in the order of the output. */
  entries: number[];
  size: Size;
  channels: 1 | 3;
  labels: LabelTable | null;
  skip: (file: string, error: Error) => void;
  skipped: SkippedFile[];
  warnings: string[];
}

function parseOptions(options: PrepareOptions): PrepareSettings {
  const parsed = prepareOptionsSchema.safeParse(options);
  if (parsed.success) {
    toSize(parsed.data.resolution);
    return parsed.data;
  }
  const issue = parsed.error.issues[0]!;
  const where = issue.path.length > 0 ? `${issue.path.join('.')}: ` : '';
  throw new UserError('PREPARE_OPTIONS', `Wrong option for prepare: ${where}${issue.message}`, {
    exitCode: 2,
  });
}

async function makePlan(source: ImageSource, settings: PrepareSettings, listeners: Listeners): Promise<Plan> {
  const { strict, transform, maxImages } = settings;
  const wanted = toSize(settings.resolution);
  if (wanted === undefined && (transform === 'center-crop-wide' || transform === 'stretch')) {
    throw new UserError('PREPARE_OPTIONS', `--transform ${transform} needs a --resolution, such as 256x192`, {
      exitCode: 2,
    });
  }
  if (transform === 'center-crop-wide' && wanted!.height > wanted!.width) {
    throw new UserError(
      'PREPARE_OPTIONS',
      '--transform center-crop-wide needs a resolution that is wider than high',
      {
        exitCode: 2,
      },
    );
  }
  const warnings: string[] = [];
  const labels = labelsForAll(source, settings, warnings);
  let entries = Array.from(source.names.keys());
  // Zips are read in plain string order, folders path by path, as the reference does.
  if (source.kind === 'folder') entries.sort((a, b) => comparePaths(source.names[a]!, source.names[b]!));
  entries = entries.slice(0, maxImages);
  const skipped: SkippedFile[] = [...source.skipped];
  if (strict && skipped[0]) throw strictError(source.path, skipped[0].file, skipped[0].reason);
  const skip = (file: string, error: Error) => {
    if (!(error instanceof UnusableImage)) throw error;
    if (strict) throw strictError(source.path, file, error.message);
    skipped.push({ file, reason: error.message });
  };
  let size = wanted;
  let channels = settings.channels;
  if (size === undefined || channels === undefined) {
    // Files that cannot be used are met again, and reported, when they are to be decoded.
    const scanned = isUniform(source) ? entries.slice(0, 1) : entries;
    const unusable: SkippedFile[] = [];
    const note = (file: string, error: Error) => {
      if (strict || !(error instanceof UnusableImage)) skip(file, error);
      unusable.push({ file, reason: error.message });
    };
    const headers = await scanHeaders(source, scanned, note, listeners);
    const usable = scanned.filter((entry) => headers.has(entry));
    if (usable.length === 0) throw nothingUsable(source.path, unusable);
    if (size === undefined) {
      checkOneSize(source, usable, headers);
      size = headers.get(usable[0]!)!;
    }
    channels ??= usable.every((entry) => headers.get(entry)!.isGrey) ? 1 : 3;
  }
  return { settings, entries, size, channels, labels, skip, skipped, warnings };
}

function labelsForAll(source: ImageSource, settings: PrepareSettings, warnings: string[]): LabelTable | null {
  try {
    return resolveLabels(source, settings.labels);
  } catch (error) {
    const isIncomplete = error instanceof UserError && error.code === 'DATA_LABELS_INCOMPLETE';
    if (settings.labels !== 'auto' || !isIncomplete) throw error;
    warnings.push(`${error.message} (written without labels)`);
    return null;
  }
}

async function writeImages(
  source: ImageSource,
  plan: Plan,
  writer: DatasetWriter,
  { onProgress, signal }: Listeners,
): Promise<number> {
  const { entries, settings } = plan;
  const { width, height } = plan.size;
  const written: [string, Label][] = [];
  let enlarged = 0;

  const makePng = async (entry: number): Promise<{ png: Buffer; isEnlarged: boolean }> => {
    const image = await source.decode(entry);
    const resized = hasSize(image, plan.size) ? image : transformImage(image, settings.transform, plan.size);
    const isEnlarged = image.width < width || image.height < height;
    return { png: encodePng(toChannels(resized, plan.channels)), isEnlarged };
  };
  // A window of images under way; they are written in order.
  const window: Promise<Awaited<ReturnType<typeof makePng>> | Error>[] = [];
  for (let k = 0; k < entries.length; k++) {
    for (let next = k + window.length; window.length < DECODE_CONCURRENCY && next < entries.length; next++) {
      window.push(makePng(entries[next]!).catch((error: Error) => error));
    }
    const result = (await window.shift())!;
    signal?.throwIfAborted();
    if (result instanceof Error) {
      plan.skip(source.names[entries[k]!]!, result);
    } else {
      // Numbers go on over images that were left out, as in the reference.
      const name = preparedName(k);
      await writer.add(name, result.png);
      written.push([name, plan.labels?.values[entries[k]!] ?? 0]);
      if (result.isEnlarged) enlarged++;
    }
    onProgress?.(k + 1, entries.length, 'write');
  }
  if (written.length === 0) throw nothingUsable(source.path, plan.skipped);
  if (enlarged > 0)
    plan.warnings.push(`${enlarged} images are smaller than ${width} × ${height} and were enlarged`);
  await writer.add('dataset.json', Buffer.from(datasetJson(written, plan.labels)));
  return written.length;
}

/** The text of `dataset.json`, laid out as Python's json module does. */
function datasetJson(written: readonly [string, Label][], labels: LabelTable | null): string {
  if (labels === null) return '{"labels": null}';
  const text = (label: Label) => (typeof label === 'number' ? String(label) : `[${label.join(', ')}]`);
  const list = written.map(([name, label]) => `["${name}", ${text(label)}]`).join(', ');
  const classes = labels.classNames?.map((name) => JSON.stringify(name)).join(', ');
  return `{"labels": [${list}]${classes === undefined ? '' : `, "classes": [${classes}]`}}`;
}
