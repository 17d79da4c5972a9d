/**
 * The data side of an update: which images, which patch size, where the patches lie. All choices come from two seeded
 * generators whose states a checkpoint saves: the data order's and NumPy's for patch sizes.
 */
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { Mt19937 } from '../data/mt19937.js';
import type { ImageSet } from '../data/types.js';
import type { LossBatch } from '../diffusion/losses.js';
import { drawOffsets, patchPositions } from '../patches/patches.js';
import { type PatchSize, progressivePatchSize, type ScheduleName, stochasticPatchSize } from '../patches/schedule.js';
import { type RandomSource, TorchRandom } from '../random-source.js';
import type { Round } from './step.js';

export interface RoundsOptions {
  readonly images: ImageSet;
  /** Endless stream of image indices. */
  readonly order: { next(count: number): Int32Array };
  /** Chooses the patch sizes. */
  readonly patchRandom: Mt19937;
  readonly sizes: readonly PatchSize[];
  readonly schedule: ScheduleName;
  /** Rounds per update. */
  readonly rounds: number;
  /** Images per round at full size. */
  readonly batchGpu: number;
  readonly device: Device;
}

/**
 * Chooses the rounds of the next update and waits until their images are decoded.
 * @param progress share of the run that is done, 0 … 1
 */
export async function nextRounds(options: RoundsOptions, progress: number): Promise<Round[]> {
  const { images, order, patchRandom, sizes, schedule, device } = options;
  const rounds: Round[] = [];
  for (let i = 0; i < options.rounds; i++) {
    const patch =
      schedule === 'progressive'
        ? progressivePatchSize(sizes, progress)
        : stochasticPatchSize(sizes, patchRandom.randomDouble());
    const indices = order.next(options.batchGpu * patch.multiplier);
    await images.ready(indices);
    const random = new TorchRandom(device);
    rounds.push({
      patch,
      count: indices.length,
      random,
      makeBatch: () => makePatchBatch(images, indices, patch, random, device),
    });
  }
  return rounds;
}

/** Cuts a patch out of each image, converts its pixels to [−1, 1] and adds the coordinate channels. */
export function makePatchBatch(
  images: ImageSet,
  indices: ArrayLike<number>,
  patch: PatchSize,
  random: RandomSource,
  device: Device,
): LossBatch {
  const offsets = drawOffsets(indices.length, patch, images, random, device);
  const [rows, cols] = [offsets.rows, offsets.cols].map((t) => t.to({ dtype: 'int32' }).toTypedArray() as Int32Array);
  const pixels = images.gather(indices, { size: patch, rows, cols });
  const shape = [indices.length, images.channels, patch.height, patch.width];
  return {
    images: fromUint8(pixels, shape, device),
    positions: patchPositions(patch, images, offsets, device),
    labels: images.labelDim
      ? torch.tensor(images.labels(indices), { shape: [indices.length, images.labelDim], device })
      : null,
  };
}

/** 8-bit pixels → float32 in [−1, 1]. */
export function fromUint8(pixels: Uint8Array, shape: number[], device: Device): torch.Tensor {
  return torch.scope(() => torch.tensor(pixels, { shape, device }).to({ dtype: 'float32' }).div(127.5).sub(1));
}
