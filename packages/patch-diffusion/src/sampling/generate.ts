/** Generating images from a run or a snapshot: batches of seeds, one PNG per seed and/or one sheet. */
import * as torch from '@patch-diffusion/torch';
import { withMemoryGuard } from '../common/memory.js';
import { withoutSecrets } from '../common/secrets.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { type LabelRecord, labelRecord } from '../data/sample-labels.js';
import type { SheetShape } from '../data/sheet.js';
import { checkPrecision, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import type { Guidance } from '../diffusion/guidance.js';
import type { Label } from '../diffusion/labels.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { sampleImages } from '../diffusion/sample.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { snapshotFor } from '../interchange/stored-averages.js';
import { type LatentDecoder, toPixels } from '../latents/latents.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import { chooseLabels, classWarning } from './choose-labels.js';
import { checkOutput, describeImages, writePngs, writeSheet } from './images.js';
import { recordLabels } from './label-file.js';
import {
  checkAgainstNetwork,
  guidanceWarning,
  openDecoder,
  openGuidance,
  samplerSettings,
  windowOf,
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

async function generateFrom(options: GenerateOptions, context: GenerateContext): Promise<GenerateResult> {
  const network = await snapshotFor(options);
  const device = resolveDevice(options.device);
  checkPrecision(options.precision, device);
  if (options.threads !== null) torch.setNumThreads(options.threads);
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
    guidance = await openGuidance(options, denoiser, loading);
    const warning = guidanceWarning(guidance, denoiser);
    if (warning) onEvent?.({ type: 'warning', code: 'NO_LABEL_DROPOUT', message: warning });
    await checkOutput(options);
    const drawn = await draw(options, { denoiser, info, decoder, guidance, labels, device }, context);
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

interface Model {
  readonly denoiser: Denoiser;
  readonly info: SnapshotInfo;
  readonly decoder: LatentDecoder | null;
  readonly guidance: Guidance | null;
  /** What is drawn from; null for all classes. */
  readonly labels: readonly Label[] | null;
  readonly device: torch.Device;
}

/** Draws and writes the images batch by batch. @returns the files of the single images, and that of their labels */
async function draw(
  options: GenerateOptions,
  { denoiser, info, decoder, guidance, labels, device }: Model,
  { signal, onEvent }: GenerateContext,
): Promise<Pick<GenerateResult, 'files' | 'labels'>> {
  const { seeds, batch, out, grid, subdirs, noise, stateDtype } = options;
  const { classNames } = info.dataset;
  const sampler = samplerSettings(options, info);
  const { numSteps } = sampler;
  const window = windowOf(options, denoiser, decoder?.downFactor ?? 1);
  const progress = (done: number, step: number) =>
    onEvent?.({ type: 'progress', done, total: seeds.length, step, numSteps });
  const files: string[] = [];
  const records: LabelRecord[] = [];
  const forSheet: Uint8Array[] = [];
  let labelFile: string | undefined;
  let size: readonly [C: number, H: number, W: number] = [0, 0, 0];
  try {
    for (let done = 0; done < seeds.length; done += batch) {
      const inBatch = seeds.slice(done, done + batch);
      const samples = await sampleImages(denoiser, {
        ...sampler,
        ...{ seeds: inBatch, window, labels, guidance, noise, stateDtype, device, signal },
        onLabels: (drawn) => records.push(...drawn.map((label) => labelRecord(label, classNames))),
        onStep: async (step) => {
          progress(done, step);
          await new Promise(setImmediate);
        },
      });
      const { pixels, shape } = await toPixels(samples, decoder, signal);
      [, ...size] = shape;
      if (out !== null)
        files.push(...(await writePngs(out, pixels, shape, inBatch, records.slice(done), subdirs)));
      if (grid !== null) forSheet.push(pixels);
    }
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
