/**
 * The data side of an update: which images, which patch size, where the patches lie. All choices come from two seeded
 * generators whose states a checkpoint saves: the data order's and NumPy's for patch sizes.
 */
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { Mt19937 } from '../common/mt19937.js';
import { type RandomSource, TorchRandom } from '../common/random-source.js';
import type { DataSet } from '../data/types.js';
import type { Augment, LossBatch } from '../diffusion/losses.js';
import { sampleLatents } from '../latents/latents.js';
import type { Extent } from '../patches/extent.js';
import { drawOffsets, extractPatches, patchPositions } from '../patches/patches.js';
import { type PatchSchedule, planUpdate } from '../patches/schedule.js';
import type { Round } from './step.js';

export interface RoundsOptions {
  readonly images: DataSet;
  /** Endless stream of image indices. */
  readonly order: { next(count: number): Int32Array };
  /** Chooses the patch sizes. */
  readonly patchRandom: Mt19937;
  readonly schedule: PatchSchedule;
  /** Rounds per update. */
  readonly rounds: number;
  /** Images per round at full size. */
  readonly batchGpu: number;
  readonly device: Device;
  /** Changes whole images before patches are cut, so that the coordinates stay true. */
  readonly augmentImages?: Augment | null;
}

/** The rounds of an update, and how many images it counts as. */
export interface Update {
  readonly rounds: readonly Round[];
  readonly images: number;
}

/**
 * Plans the next update and waits until its images are decoded.
 * @param progress share of the run that is done, 0 … 1
 */
export async function nextUpdate(options: RoundsOptions, progress: number): Promise<Update> {
  const { images, order, patchRandom, device, augmentImages } = options;
  const plan = planUpdate(options.schedule, options, progress, () => patchRandom.randomDouble());
  // Places are drawn where the pixels are, so that no update waits for a GPU.
  const places = new TorchRandom('cpu');
  const rounds: Round[] = [];
  for (const { patch, count, weight } of plan.rounds) {
    const indices = order.next(count);
    await images.ready(indices);
    const random = new TorchRandom(device);
    rounds.push({
      patch,
      count,
      weight,
      random,
      makeBatch: () =>
        augmentImages
          ? makeAugmentedBatch(augmentImages, images, indices, patch, random, device, places)
          : makePatchBatch(images, indices, patch, random, device, places),
    });
  }
  return { rounds, images: plan.images };
}

/**
 * Cuts a patch out of each image and adds the coordinate channels. Pixels become [−1, 1]; latents are drawn from their
 * distributions, for the patch only.
 * @param places draws where the patches lie
 */
export function makePatchBatch(
  images: DataSet,
  indices: ArrayLike<number>,
  patch: Extent,
  random: RandomSource,
  device: Device,
  places: RandomSource = random,
): LossBatch {
  const offsets = drawOffsets(indices.length, patch, images, places);
  const [rows, cols] = [offsets.rows, offsets.cols].map(
    (t) => t.to({ dtype: 'int32' }).toTypedArray() as Int32Array,
  );
  const values = images.gather(indices, { size: patch, rows, cols });
  const shape = [indices.length, images.channels, patch.height, patch.width];
  return {
    images:
      values instanceof Float32Array
        ? sampleLatents(torch.tensor(values, { shape: [2, ...shape], device }), images.latents!, random)
        : fromUint8(values, shape, device),
    positions: patchPositions(patch, images, offsets, device),
    labels: images.labelDim
      ? torch.tensor(images.labels(indices), { shape: [indices.length, images.labelDim], device })
      : null,
  };
}

/** Augments whole images, then cuts a patch out of each. */
function makeAugmentedBatch(
  augment: Augment,
  images: DataSet,
  indices: ArrayLike<number>,
  patch: Extent,
  random: RandomSource,
  device: Device,
  places: RandomSource,
): LossBatch {
  const whole = makePatchBatch(
    images,
    indices,
    { height: images.height, width: images.width },
    random,
    device,
  );
  const offsets = drawOffsets(indices.length, patch, images, places);
  const augmented = augment(whole.images, random);
  return {
    images: extractPatches(augmented.images, patch, offsets),
    positions: patchPositions(patch, images, offsets, device),
    labels: whole.labels,
    augmentLabels: augmented.labels,
  };
}

/** 8-bit pixels → float32 in [−1, 1]. */
export function fromUint8(pixels: Uint8Array, shape: number[], device: Device): torch.Tensor {
  return torch.scope(() =>
    torch.tensor(pixels, { shape, device }).to({ dtype: 'float32' }).div(127.5).sub(1),
  );
}
