/** Generating images from a run or a snapshot: batches of seeds, one PNG per seed and/or one sheet. */
import { withMemoryGuard } from '../common/memory.js';
import { withoutSecrets } from '../common/secrets.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { compareOptions } from '../config/same-options.js';
import { type LabelRecord, labelRecord } from '../data/sample-labels.js';
import type { SheetShape } from '../data/sheet.js';
import { checkPrecision, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import type { Guidance } from '../diffusion/guidance.js';
import { blockFor, computeTogether, dismiss, help } from '../distributed/crew.js';
import { ownDevice, setThreads } from '../distributed/machine.js';
import type { Ranks } from '../distributed/ranks.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { snapshotFor } from '../interchange/stored-averages.js';
import type { LatentDecoder } from '../latents/latents.js';
import { chooseLabels, classWarning } from './choose-labels.js';
import { drawSeeds, type Model, unpackDrawn } from './draw-seeds.js';
import { checkOutput, describeImages, writePngs, writeSheet } from './images.js';
import { recordLabels } from './label-file.js';
import {
  checkAgainstNetwork,
  guidanceWarning,
  guideFor,
  openDecoder,
  openGuidance,
  samplerSettings,
} from './settings.js';

/** Progress of a generation, and what the user should know. */
export type GenerateEvent =
  | {
      readonly type: 'progress';
      /** Images that are finished. */
      readonly done: number;
      readonly total: number;
      /** Solver step of the current batch. */
      readonly step: number;
      readonly numSteps: number;
    }
  /** The early snapshot that guides, with `--guide auto`. */
  | { readonly type: 'guide'; readonly network: string }
  /** A network is being fetched; `totalBytes` is null where the host does not say. */
  | { readonly type: 'fetch'; readonly doneBytes: number; readonly totalBytes: number | null }
  | { readonly type: 'warning'; readonly code: string; readonly message: string };

export interface GenerateResult {
  /** Snapshot that was used. */
  readonly network: string;
  /** PNG files, in the order of the seeds. */
  readonly files: string[];
  /** JSON with the label of each image, for a network with classes or label vectors. */
  readonly labels?: string;
  /** The sheet, where one was asked for. */
  readonly sheet?: string;
}

export interface GenerateContext {
  readonly signal?: AbortSignal;
  /** Processes that share the work; all call this function with the same options, and the first one writes the files. */
  readonly ranks?: Ranks | null;
  readonly onEvent?: (event: GenerateEvent) => void;
}

/**
 * Samples images, by default as EDM does, on the coordinate grid of the window.
 * @throws UserError for a missing or foreign snapshot, a class or window that the network does not have, or a full disk
 */
export async function generate(
  options: GenerateOptions,
  context: GenerateContext = {},
): Promise<GenerateResult> {
  return withMemoryGuard('lower --batch or --image-size', () => generateFrom(options, context));
}

/** Options that are about a rank's own machine. */
const OWN_OPTIONS = ['device', 'threads', 'autoencoder', 'run', 'network', 'guide'] as const;

async function generateFrom(options: GenerateOptions, context: GenerateContext): Promise<GenerateResult> {
  const { ranks = null } = context;
  if (ranks) await compareOptions(ranks, options, OWN_OPTIONS);
  const network = await snapshotFor(options);
  const guide = await guideFor(options, network);
  const device = ownDevice(resolveDevice(options.device), ranks);
  checkPrecision(options.precision, device);
  setThreads(options.threads, ranks);
  const { signal, onEvent } = context;
  const loading = {
    device,
    signal,
    onProgress: (doneBytes: number, totalBytes: number | null) =>
      onEvent?.({ type: 'fetch', doneBytes, totalBytes }),
    onNote: (message: string) => onEvent?.({ type: 'warning', code: 'CACHED_COPY', message }),
  };
  const { denoiser, info } = await loadAnySnapshot(network, loading);
  let decoder: LatentDecoder | null = null;
  let guidance: Guidance | null = null;
  try {
    prepareDenoiser(denoiser, device, options.precision);
    checkAgainstNetwork(options, denoiser, info);
    const labels = chooseLabels(options, denoiser.labelDim, info.dataset);
    const ambiguous = classWarning(options.class, info.dataset);
    if (ambiguous) onEvent?.({ type: 'warning', code: 'NUMBER_IS_NAME', message: ambiguous });
    decoder = await openDecoder(options, info, denoiser, device);
    if (options.guide === 'auto' && guide !== null) onEvent?.({ type: 'guide', network: guide });
    guidance = await openGuidance(options, denoiser, guide, loading);
    const warning = guidanceWarning(guidance, denoiser);
    if (warning) onEvent?.({ type: 'warning', code: 'NO_LABEL_DROPOUT', message: warning });
    if (ranks?.isWriter ?? true) await checkOutput(options);
    if (ranks) await compareOptions(ranks, { snapshot: `${info.nimg} images` }, []);
    const model = { denoiser, info, decoder, guidance, labels, device };
    if (ranks && !ranks.isWriter) {
      await help<readonly number[]>(ranks, signal, (seeds, [begin, end], { stop }) =>
        drawSeeds(options, model, seeds.slice(begin, end), { signal: stop }),
      );
      return { network: withoutSecrets(network), files: [] };
    }
    const drawn = await draw(options, model, context);
    return {
      network: withoutSecrets(network),
      ...drawn,
      ...(options.grid === null ? {} : { sheet: options.grid }),
    };
  } finally {
    guidance?.guide?.dispose();
    decoder?.dispose();
    denoiser.dispose();
  }
}

/** Draws and writes the images batch by batch. @returns the files of the single images, and that of their labels */
async function draw(
  options: GenerateOptions,
  model: Model,
  { signal, onEvent, ranks = null }: GenerateContext,
): Promise<Pick<GenerateResult, 'files' | 'labels'>> {
  const { seeds, out, grid, subdirs } = options;
  const { classNames } = model.info.dataset;
  const { numSteps } = samplerSettings(options, model.info);
  const progress = (done: number, step: number) =>
    onEvent?.({ type: 'progress', done, total: seeds.length, step, numSteps });
  const files: string[] = [];
  const records: LabelRecord[] = [];
  const forSheet: Uint8Array[] = [];
  const { block, round } = blockFor(ranks, seeds.length, options.batch);
  let labelFile: string | undefined;
  let size: readonly [C: number, H: number, W: number] = [0, 0, 0];
  try {
    for (let done = 0; done < seeds.length; done += round) {
      const inBatch = seeds.slice(done, done + round);
      const task = { what: inBatch, count: inBatch.length, block };
      const parts = await computeTogether(ranks, signal, task, (what, [begin, end], { stop }) =>
        drawSeeds(options, model, what.slice(begin, end), {
          signal: stop,
          onStep: (step) => progress(done, step),
        }),
      );
      const drawn = parts.filter(({ length }) => length > 0).map(unpackDrawn);
      size = drawn[0].size;
      const pixels = Buffer.concat(drawn.map((part) => part.pixels));
      for (const { labels } of drawn) records.push(...labels.map((label) => labelRecord(label, classNames)));
      if (out !== null) {
        const shape: SheetShape = [inBatch.length, ...size];
        files.push(...(await writePngs(out, pixels, shape, inBatch, records.slice(done), subdirs)));
      }
      if (grid !== null) forSheet.push(pixels);
    }
    await dismiss(ranks);
  } finally {
    // Also of the images that are there when something stops the rest.
    if (out !== null) {
      const written = files.map((file, n) => ({ file, seed: seeds[n], label: records.at(n) ?? null }));
      labelFile = await recordLabels(out, written);
    }
  }
  if (grid !== null) {
    const shape: SheetShape = [seeds.length, ...size];
    const isFixed = options.class !== null || options.label !== null;
    const caption = describeImages(isFixed ? records[0] : null, numSteps);
    await writeSheet(grid, Buffer.concat(forSheet), shape, seeds, records, caption);
  }
  progress(seeds.length, numSteps);
  return { files, ...(labelFile === undefined ? {} : { labels: labelFile }) };
}
