/** What a run will cost, measured on a small update: for `train --dry-run`. */
import * as torch from '@patch-diffusion/torch';
import { TorchRandom } from '../common/random-source.js';
import type { TrainOptions } from '../config/train-options.js';
import { prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import { denoisingLoss } from '../diffusion/losses.js';
import { createDenoiser } from '../diffusion/preconditioning.js';
import { TRACKED_WIDTHS } from '../interchange/power-function.js';
import type { Extent } from '../patches/extent.js';
import { meanMultiplier, type PatchSchedule, sizesAt } from '../patches/schedule.js';
import { type DataShape, lossSpec, precondSpec } from './model.js';

/** float32 copies of every weight while training: weights, gradient, two Adam moments, average. */
const WEIGHT_COPIES = 5;
/** Those of `--power-ema`. */
const POWER_COPIES = TRACKED_WIDTHS.length;

/** Pixels times base channels of the measured batch: enough to see its memory, quick enough to wait for. */
const MEASURED_SIZE = 2e6;

export interface StepEstimate {
  /** Trainable values. */
  readonly parameters: number;
  /** Weights, gradients, optimiser and average. */
  readonly weightBytes: number;
  /** What one whole image keeps for the backward pass; 0 where it is too little to see. */
  readonly bytesPerImage: number;
  /** Forward and backward of one whole image. */
  readonly secPerImage: number;
}

export interface RunEstimate {
  readonly updates: number;
  /** On average over the run. */
  readonly imagesPerUpdate: number;
  /** Pixels of an update in whole images of the batch, on average over the run. */
  readonly pixelShare: number;
}

/** Points of a run at which the sizes and costs of its schedule are looked at. */
const POINTS = 1000;

/** The number of updates of a run and their mean cost, under its schedule. */
export function estimateRun(
  schedule: PatchSchedule,
  { height, width }: Extent,
  { batch, durationKimg }: TrainOptions,
): RunEstimate {
  const total = durationKimg * 1000;
  let updates = 0;
  let pixels = 0;
  for (let point = 0; point < POINTS; point++) {
    const sizes = sizesAt(schedule, (point + 0.5) / POINTS);
    const count = total / POINTS / Math.floor(batch * meanMultiplier(sizes));
    updates += count;
    for (const s of sizes) pixels += count * s.probability * s.multiplier * s.height * s.width;
  }
  return {
    // Less a rounding error of the sum.
    updates: Math.ceil(updates - 1e-6),
    imagesPerUpdate: total / updates,
    pixelShare: pixels / (updates * height * width),
  };
}

/** Builds the network and runs it forward and backward on a few random images. */
export function estimateStep(options: TrainOptions, data: DataShape): StepEstimate {
  const device = resolveDevice(options.device);
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const spec = precondSpec(options, data);
  const denoiser = prepareDenoiser(createDenoiser(spec), device, options.precision).train();
  try {
    const parameters = denoiser.numParams();
    const size = data.height * data.width * options.modelChannels;
    const count = Math.min(options.batchGpu ?? options.batch, Math.ceil(MEASURED_SIZE / size));
    const run = (images: number) => measure(denoiser, images, options, data, device);
    run(1);
    const { bytes, sec } = run(count);
    return {
      parameters,
      weightBytes: parameters * 4 * (WEIGHT_COPIES + (options.powerEma ? POWER_COPIES : 0)),
      bytesPerImage: Math.max(bytes, 0) / count,
      secPerImage: sec / count,
    };
  } finally {
    denoiser.dispose();
  }
}

function measure(
  denoiser: ReturnType<typeof createDenoiser>,
  count: number,
  options: TrainOptions,
  data: DataShape,
  device: torch.Device,
): { bytes: number; sec: number } {
  return torch.scope(() => {
    const { height, width, channels } = data;
    const images = torch.zeros([count, channels, height, width], { device });
    const positions = denoiser.hasPositions ? torch.zeros([count, 2, height, width], { device }) : null;
    const bytesBefore = usedBytes(device);
    const begin = performance.now();
    const random = new TorchRandom(device);
    const loss = denoisingLoss(denoiser, { images, positions }, random, lossSpec(options, data)).sum();
    loss.item();
    const bytes = usedBytes(device) - bytesBefore;
    loss.backward();
    torch.synchronize(device);
    denoiser.zeroGrad();
    return { bytes, sec: (performance.now() - begin) / 1000 };
  });
}

function usedBytes(device: torch.Device): number {
  return device.startsWith('cuda')
    ? (torch.cudaMemory(Number(device.split(':')[1] ?? 0))?.allocatedBytes ?? 0)
    : process.memoryUsage.rss();
}
