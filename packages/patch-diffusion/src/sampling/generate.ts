/** Generating images from a run or a snapshot: batches of seeds, one PNG per seed and/or one sheet. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import type { GenerateOptions } from '../config/generate-options.js';
import { sampleImages, toUint8 } from '../diffusion/sample.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { UserError } from '../errors.js';
import { resolveDevice } from '../training/device.js';
import { fileError, newestSnapshot } from '../training/run-folder.js';
import { gridPng } from '../training/sheet.js';
import { loadSnapshot } from '../training/snapshot.js';

/** Progress of a generation. */
export interface GenerateEvent {
  readonly type: 'progress';
  /** Images that are finished. */
  readonly done: number;
  readonly total: number;
  /** Solver step of the current batch. */
  readonly step: number;
  readonly numSteps: number;
}

export interface GenerateResult {
  /** Snapshot that was used. */
  readonly network: string;
  /** PNG files, in the order of the seeds. */
  readonly files: string[];
  /** The sheet, where one was asked for. */
  readonly sheet?: string;
}

/**
 * Samples images as EDM does, on the coordinate grid of the window.
 * @throws UserError for a missing or foreign snapshot, a class or window that the network cannot do, or a full disk
 */
export async function generate(
  options: GenerateOptions,
  context: { signal?: AbortSignal; onEvent?: (event: GenerateEvent) => void } = {},
): Promise<GenerateResult> {
  const network = options.network ?? (await snapshotOf(options.run!));
  const device = resolveDevice(options.device);
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const { denoiser, info } = await loadSnapshot(network, device);
  try {
    checkAgainstNetwork(options, denoiser);
    return { network, ...(await writeImages(denoiser, options, options.steps ?? info.train.sampleSteps, device, context)) };
  } finally {
    denoiser.dispose();
  }
}

async function snapshotOf(runDir: string): Promise<string> {
  const snapshot = await newestSnapshot(runDir);
  if (snapshot) return snapshot;
  throw new UserError('NO_SNAPSHOT', `${runDir} has no snapshot yet; check the path, or let the run go on until it has written one`);
}

function checkAgainstNetwork(options: GenerateOptions, denoiser: Denoiser): void {
  const { labelDim } = denoiser;
  const usage = (code: string, message: string) => new UserError(code, message, { exitCode: 2 });
  if (options.class !== null && !labelDim) {
    throw usage('NO_CLASSES', `--class ${options.class}: this network was trained without class labels; leave the option out`);
  }
  if (options.class !== null && options.class >= labelDim) {
    throw usage('BAD_CLASS', `--class ${options.class}: this network has classes 0 to ${labelDim - 1}`);
  }
  if (options.cfg !== null && !labelDim) {
    throw usage('NO_CLASSES', `--cfg ${options.cfg}: guidance needs a network with class labels; leave the option out`);
  }
  const factor = denoiser.model.sizeFactor;
  if (options.imageSize !== null && options.imageSize % factor) {
    const near = Math.max(1, Math.round(options.imageSize / factor)) * factor;
    throw usage('BAD_SIZE', `--image-size ${options.imageSize} cannot be halved by this network; use a multiple of ${factor}, such as ${near}`);
  }
}

async function writeImages(
  denoiser: Denoiser,
  options: GenerateOptions,
  numSteps: number,
  device: torch.Device,
  context: { signal?: AbortSignal; onEvent?: (event: GenerateEvent) => void },
): Promise<Omit<GenerateResult, 'network'>> {
  const { seeds, imageSize } = options;
  const extent = imageSize === null ? denoiser.imageExtent : { height: imageSize, width: imageSize };
  const channels = denoiser.dataChannels;
  const files: string[] = [];
  const forGrid: Uint8Array[] = [];
  for (let start = 0; start < seeds.length; start += options.batch) {
    const batch = seeds.slice(start, start + options.batch);
    const images = await sampleImages(denoiser, {
      seeds: batch,
      numSteps,
      sigmaMin: options.sigmaMin,
      sigmaMax: options.sigmaMax,
      rho: options.rho,
      sChurn: options.sChurn,
      sMin: options.sMin,
      sMax: options.sMax ?? Number.POSITIVE_INFINITY,
      sNoise: options.sNoise,
      window: { ...extent, xStart: options.xStart, yStart: options.yStart },
      classIndex: options.class,
      guidance: options.cfg,
      stateDtype: options.stateDtype,
      device,
      ...(context.signal ? { signal: context.signal } : {}),
      onStep: async (step) => {
        context.onEvent?.({ type: 'progress', done: start, total: seeds.length, step, numSteps });
        await new Promise(setImmediate);
      },
    });
    const pixels = toUint8(images);
    images.dispose();
    if (options.out !== null) files.push(...(await writePngs(pixels, batch, channels, extent, options.out, options.subdirs)));
    if (options.grid !== null) forGrid.push(pixels);
  }
  if (options.grid !== null) {
    const sheet = await gridPng(Buffer.concat(forGrid), [seeds.length, channels, extent.height, extent.width]);
    await written(options.grid, () => writeFileAtomic(options.grid!, sheet));
  }
  context.onEvent?.({ type: 'progress', done: seeds.length, total: seeds.length, step: numSteps, numSteps });
  return options.grid === null ? { files } : { files, sheet: options.grid };
}

/** One `{seed:06d}.png` per image, by default all in one folder. */
async function writePngs(
  pixels: Uint8Array,
  seeds: readonly number[],
  channels: number,
  { height, width }: { height: number; width: number },
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
      await written(file, async () => {
        await mkdir(folder, { recursive: true });
        await writeFileAtomic(file, image);
      });
      return file;
    }),
  );
}

async function written(file: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (error) {
    throw fileError(error, `write ${file}`);
  }
}
