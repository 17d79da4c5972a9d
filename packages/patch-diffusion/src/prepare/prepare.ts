/**
 * `prepare`: makes a dataset of uniform images, or of their latents, out of a folder, a zip or an idx file, once and
 * for all.
 *
 * The result is what the reference's dataset tool makes: the same names, labels, order and pixels. Beyond it, any
 * size and proportions may be had, files that cannot be used are left out and listed, and all formats are converted
 * properly (see decode.ts). Images are decoded a few at a time and written in order, so memory stays bounded.
 */

import { resolve, sep } from 'node:path';
import type { Device } from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { PrepareOptions } from '../config/prepare-options.js';
import type { ImageSource } from '../data/image-source.js';
import type { LabelTable } from '../data/labels.js';
import { preparedName, sortSkipped } from '../data/names.js';
import { labelsToDraw } from '../data/sample-labels.js';
import { openSource } from '../data/source.js';
import { transformedSize } from '../data/transform.js';
import type { Progress, SkippedFile } from '../data/types.js';
import type { Label } from '../diffusion/labels.js';
import type { Ranks } from '../distributed/ranks.js';
import { checkLatentTarget, checkTarget, createDatasetWriter, type DatasetWriter } from './dataset-writer.js';
import { type Listeners, makePlan, type Plan, preparedImages } from './prepare-plan.js';

/** What `prepare` made. */
export interface PrepareReport {
  readonly out: string;
  /** Images written. */
  readonly used: number;
  readonly skipped: SkippedFile[];
  /** Sides and channels of the images, or of the latents. */
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** Number of classes or length of the label vectors; 0 without labels. */
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  /** The classes that have images, where some have none, or label vectors of images; else null. */
  readonly labels: readonly Label[] | null;
  /** Size of the result. */
  readonly bytes: number;
  readonly warnings: string[];
  /** Of latents: the standard deviation of all their elements, scaled as training sees them. */
  readonly std?: number;
}

interface PrepareContext {
  readonly onProgress?: Progress;
  readonly signal?: AbortSignal;
  /** Processes that encode latents together; the others call {@link helpToPrepare}. */
  readonly ranks?: Ranks | null;
}

/**
 * Makes a dataset. Nothing is left behind on failure or when `signal` aborts.
 *
 * @param settings from {@link resolvePrepareOptions}
 * @throws UserError for everything the user can fix; the signal's reason when aborted
 */
export async function prepare(
  settings: PrepareOptions,
  { onProgress, signal, ranks = null }: PrepareContext = {},
): Promise<PrepareReport> {
  await checkOut(settings);
  const source = await openSource(settings.source, { exclude: settings.out });
  try {
    if (settings.latents) return await toLatents(source, settings, { onProgress, signal, ranks });
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
        ...labelReport(plan),
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

/** Helps the rank that makes a file of latents with the same settings. */
export async function helpToPrepare(
  settings: PrepareOptions,
  ranks: Ranks,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { helpEncoding } = await import('./prepare-latents.js');
  await helpEncoding(settings, await deviceOf(settings, ranks), ranks, signal);
}

/** Device and threads of this process. Plain images are prepared without libtorch, so that it is loaded here. */
async function deviceOf(settings: PrepareOptions, ranks: Ranks | null): Promise<Device> {
  const [{ resolveDevice }, { ownDevice, setThreads }] = await Promise.all([
    import('../diffusion/device.js'),
    import('../distributed/machine.js'),
  ]);
  setThreads(null, ranks);
  return ownDevice(resolveDevice(settings.device), ranks);
}

async function toLatents(
  source: ImageSource,
  settings: PrepareOptions,
  listeners: Listeners & { readonly ranks: Ranks | null },
): Promise<PrepareReport> {
  const { prepareLatents } = await import('./prepare-latents.js');
  const device = await deviceOf(settings, listeners.ranks);
  const { plan, ...made } = await prepareLatents(source, settings, device, listeners);
  return {
    out: settings.out,
    skipped: sortSkipped(plan.skipped),
    ...labelReport(plan),
    warnings: plan.warnings,
    ...made,
  };
}

function labelReport({
  labels: table,
  entries,
}: Plan): Pick<PrepareReport, 'labelDim' | 'classNames' | 'labels'> {
  if (table === null) return { labelDim: 0, classNames: null, labels: null };
  const { dim: labelDim, classNames, values } = table;
  const labelOf = (index: number) => values[entries[index]];
  return { labelDim, classNames, labels: labelsToDraw({ labelDim, baseLength: entries.length, labelOf }, 0) };
}

/** Before hours of work are spent. @throws UserError if something is in the way that may not be replaced */
async function checkOut({ source, out, latents, force }: PrepareOptions): Promise<void> {
  if (resolve(source) === resolve(out)) {
    throw new UserError('OUT_EXISTS', `The output ${out} is the source itself; choose another name`);
  }
  if (resolve(source).startsWith(resolve(out) + sep)) {
    throw new UserError('OUT_EXISTS', `The output ${out} holds the source ${source}; choose another name`);
  }
  if (latents) await checkLatentTarget(out, force);
  else await checkTarget(out, force);
}

async function writeImages(
  source: ImageSource,
  plan: Plan,
  writer: DatasetWriter,
  { onProgress, signal }: Listeners,
): Promise<number> {
  const written: [string, Label][] = [];
  for await (const { entry, position, data } of preparedImages(source, plan, 'png', signal)) {
    // Numbers go on over images that were left out, as in the reference.
    const name = preparedName(position);
    await writer.add(name, data);
    written.push([name, plan.labels?.values[entry] ?? 0]);
    onProgress?.(position + 1, plan.entries.length, 'write');
  }
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
