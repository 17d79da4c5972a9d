/** Generating images from a run or a snapshot: batches of seeds, one PNG per seed and/or one sheet. */
import { constants } from 'node:fs';
import { access, mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { withMemoryGuard } from '../common/memory.js';
import { toExtent } from '../config/fields.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { gridPng } from '../data/sheet.js';
import { checkPrecision, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import type { Guidance } from '../diffusion/guidance.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { sampleImages } from '../diffusion/sample.js';
import type { SamplerOptions } from '../diffusion/samplers/index.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { LatentDecoder, toPixels } from '../latents/latents.js';
import { extentName } from '../patches/extent.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import { describeImages, seedSheetPng } from './seed-sheet.js';
import { guidanceSettings, guidanceWarning, samplerSettings } from './settings.js';

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

/** Sampler steps for networks that do not say how they were sampled in training (Karras et al. 2022). */
const DEFAULT_STEPS = 18;

export interface GenerateResult {
  /** Snapshot that was used. */
  readonly network: string;
  /** PNG files, in the order of the seeds. */
  readonly files: string[];
  /** The sheet, where one was asked for. */
  readonly sheet?: string;
}

export interface GenerateContext {
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: GenerateEvent) => void;
}

/**
 * Samples images, by default as EDM does, on the coordinate grid of the window.
 * @throws UserError for a missing or foreign snapshot, a class or window that the network cannot do, or a full disk
 */
export async function generate(
  options: GenerateOptions,
  context: GenerateContext = {},
): Promise<GenerateResult> {
  return withMemoryGuard('lower --batch or --image-size', () => draw(options, context));
}

async function draw(options: GenerateOptions, context: GenerateContext): Promise<GenerateResult> {
  const network = await chooseSnapshot(options);
  const device = resolveDevice(options.device);
  checkPrecision(options.precision, device);
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const { denoiser, info } = await loadAnySnapshot(network, {
    device,
    ...(context.signal ? { signal: context.signal } : {}),
    onProgress: (doneBytes, totalBytes) => context.onEvent?.({ type: 'fetch', doneBytes, totalBytes }),
    onNote: (message) => context.onEvent?.({ type: 'warning', code: 'CACHED_COPY', message }),
  });
  let decoder: LatentDecoder | null = null;
  let guidance: Guidance | null = null;
  try {
    prepareDenoiser(denoiser, device, options.precision);
    checkAgainstNetwork(options, denoiser, info.latents?.downFactor ?? 1);
    const numSteps = options.steps ?? info.train?.sampleSteps ?? DEFAULT_STEPS;
    const sampler = { ...samplerSettings(options, info.train?.sampleChurn ?? 0), numSteps };
    decoder = await openDecoder(options, info, denoiser, device);
    guidance = await guidanceSettings(options, denoiser, device);
    const warning = guidanceWarning(guidance, denoiser);
    if (warning) context.onEvent?.({ type: 'warning', code: 'NO_LABEL_DROPOUT', message: warning });
    await checkOutput(options);
    const caption = describeImages(options.class, info.dataset.classNames, numSteps);
    return {
      network,
      ...(await writeImages({ denoiser, decoder, guidance, options, sampler, device, caption }, context)),
    };
  } finally {
    guidance?.guide?.dispose();
    decoder?.dispose();
    denoiser.dispose();
  }
}

/** @param downFactor image side / side that the network sees */
function checkAgainstNetwork(options: GenerateOptions, denoiser: Denoiser, downFactor: number): void {
  const { labelDim } = denoiser;
  const usage = (code: string, message: string) => new UserError(code, message, { exitCode: 2 });
  if (options.class !== null && !labelDim) {
    throw usage(
      'NO_CLASSES',
      `--class ${options.class}: this network was trained without class labels; leave the option out`,
    );
  }
  if (options.class !== null && options.class >= labelDim) {
    throw usage('BAD_CLASS', `--class ${options.class}: this network has classes 0 to ${labelDim - 1}`);
  }
  if (options.maskPos && denoiser.hasPositions) {
    throw usage(
      'HAS_POSITIONS',
      '--mask-pos: this network was trained with coordinates and needs them; leave the option out',
    );
  }
  const factor = denoiser.model.sizeFactor * downFactor;
  const size = options.imageSize === null ? null : toExtent(options.imageSize);
  if (size && (size.width % factor || size.height % factor)) {
    const near = (side: number) => Math.max(1, Math.round(side / factor)) * factor;
    const remedy = extentName({ width: near(size.width), height: near(size.height) });
    throw usage(
      'BAD_SIZE',
      `--image-size ${extentName(size)} cannot be halved by this network; use multiples of ${factor}, such as ${remedy}`,
    );
  }
  for (const [name, start] of [
    ['x-start', options.xStart],
    ['y-start', options.yStart],
  ] as const) {
    if (start % downFactor === 0) continue;
    throw usage(
      'BAD_WINDOW',
      `--${name} ${start}: a latent pixel is ${downFactor} px wide; use a multiple of ${downFactor}`,
    );
  }
}

/** What makes images of the samples of a network for latents; null for one for pixels. */
async function openDecoder(
  options: GenerateOptions,
  { latents, train }: SnapshotInfo,
  denoiser: Denoiser,
  device: torch.Device,
): Promise<LatentDecoder | null> {
  if (latents)
    return LatentDecoder.open(
      latents,
      options.autoencoder ?? train?.autoencoder ?? null,
      denoiser.dataChannels,
      device,
    );
  if (options.autoencoder === null) return null;
  throw new UserError(
    'NO_LATENTS',
    '--autoencoder: this network was trained on pixels; leave the option out',
    { exitCode: 2 },
  );
}

interface Drawing {
  readonly denoiser: Denoiser;
  readonly decoder: LatentDecoder | null;
  readonly guidance: Guidance | null;
  readonly options: GenerateOptions;
  readonly sampler: SamplerOptions & { readonly numSteps: number };
  readonly device: torch.Device;
  /** What the images have in common, for the sheet. */
  readonly caption: string;
}

async function writeImages(
  { denoiser, decoder, guidance, options, sampler, device, caption }: Drawing,
  context: GenerateContext,
): Promise<Omit<GenerateResult, 'network'>> {
  const { seeds, imageSize } = options;
  // Options count pixels of the images, the network those of the latents.
  const factor = decoder?.downFactor ?? 1;
  const asked = imageSize === null ? null : toExtent(imageSize);
  const extent = asked
    ? { height: asked.height / factor, width: asked.width / factor }
    : denoiser.imageExtent;
  const window = { ...extent, xStart: options.xStart / factor, yStart: options.yStart / factor };
  const { numSteps } = sampler;
  const files: string[] = [];
  const forSheet: Uint8Array[] = [];
  let size: ImageSize = [0, 0, 0];
  for (let start = 0; start < seeds.length; start += options.batch) {
    const batch = seeds.slice(start, start + options.batch);
    const samples = await sampleImages(denoiser, {
      seeds: batch,
      ...sampler,
      window,
      classIndex: options.class,
      guidance,
      stateDtype: options.stateDtype,
      device,
      ...(context.signal ? { signal: context.signal } : {}),
      onStep: async (step) => {
        context.onEvent?.({ type: 'progress', done: start, total: seeds.length, step, numSteps });
        await new Promise(setImmediate);
      },
    });
    const { pixels, shape } = await toPixels(samples, decoder, context.signal);
    size = [shape[1], shape[2], shape[3]];
    if (options.out !== null)
      files.push(...(await writePngs(pixels, batch, size, options.out, options.subdirs)));
    if (options.grid !== null) forSheet.push(pixels);
  }
  if (options.grid !== null) {
    const sheet = await seedSheetPng(Buffer.concat(forSheet), [seeds.length, ...size], seeds, caption);
    await guarded(`write ${options.grid}`, () => writeFileAtomic(options.grid!, sheet));
  }
  context.onEvent?.({ type: 'progress', done: seeds.length, total: seeds.length, step: numSteps, numSteps });
  return options.grid === null ? { files } : { files, sheet: options.grid };
}

/** Makes the folders of the output and tries them: images take long to draw, and cannot be lost then. */
async function checkOutput({ out, grid }: GenerateOptions): Promise<void> {
  const folders = [...(out === null ? [] : [out]), ...(grid === null ? [] : [dirname(grid)])];
  for (const folder of folders) {
    await guarded(`write to ${folder}`, async () => {
      await mkdir(folder, { recursive: true });
      await access(folder, constants.W_OK);
    });
  }
  const info = grid === null ? null : await stat(grid).catch(() => null);
  if (info?.isDirectory())
    throw new UserError('BAD_GRID', `--grid ${grid} is a folder; name a file in it, such as sheet.png`);
}

type ImageSize = readonly [channels: number, height: number, width: number];

/** One `{seed:06d}.png` per image, by default all in one folder. */
async function writePngs(
  pixels: Uint8Array,
  seeds: readonly number[],
  [channels, height, width]: ImageSize,
  out: string,
  subdirs: boolean,
): Promise<string[]> {
  const pad = (n: number) => String(n).padStart(6, '0');
  const bytes = channels * height * width;
  return Promise.all(
    seeds.map(async (seed, n) => {
      const folder = subdirs ? join(out, pad(seed - (seed % 1000))) : out;
      const file = join(folder, `${pad(seed)}.png`);
      const image = await gridPng(pixels.subarray(n * bytes, (n + 1) * bytes), [1, channels, height, width]);
      await guarded(`write ${file}`, async () => {
        await mkdir(folder, { recursive: true });
        await writeFileAtomic(file, image);
      });
      return file;
    }),
  );
}
