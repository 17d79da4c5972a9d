/**
 * Training batches (Patch Diffusion, section 3.1): one crop of each image, with the crop's coordinates.
 * Shapes: N patches, C channels, P × P the patch (height × width).
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import { drawOffsets, extractPatches, type PatchOffsets, patchPositions } from './crops.js';
import { energyOutside } from './energy-outside.js';
import type { Extent } from './extent.js';
import type { PatchSource } from './patch-source.js';

/** What the denoiser is trained on. */
export interface PatchBatch {
  /** Clean patches in [−1, 1] or scaled latents, [N, C, P, P]. */
  readonly images: Tensor;
  /** Coordinate channels, [N, 2, P, P]; none for a network without them. */
  readonly positions?: Tensor | null;
  /** Class labels (one-hot) or label vectors, [N, labelDim]. */
  readonly labels?: Tensor | null;
  /** What was done to images that were augmented before the crop, [N, augmentDim]. */
  readonly augmentLabels?: Tensor | null;
  /** Sum of squares of each image outside of its patch, [N]; none where nobody asked, or nothing is outside. */
  readonly energyOutside?: Tensor | null;
}

/** Changes images before noise is added and says how, for the network: images [N, C, H, W] → labels [N, augmentDim]. */
export type Augment = (images: Tensor, random: RandomSource) => { images: Tensor; labels: Tensor };

export interface PatchBatchOptions {
  readonly random: RandomSource;
  /** Draws the patches' positions; `random` by default. A source on the CPU spares a wait for the GPU. */
  readonly positionRandom?: RandomSource;
  readonly device?: Device;
  /** Changes whole images before patches are cut, so that the coordinates stay true. */
  readonly augmentImages?: Augment | null;
  /** Whether {@link PatchBatch.energyOutside} is wanted. */
  readonly withEnergy?: boolean;
}

/**
 * Cuts a patch out of each image and adds the coordinate channels. Pixels become [−1, 1]; latents are drawn from their
 * distributions, for the patch only.
 * @param indices images in `source`, one patch each
 * @example
 * ```ts
 * const photos = await openImages('photos.zip');
 * await photos.ready([0, 1, 2]);
 * const patch = { height: 8, width: 8 };
 * const batch = makePatchBatch(photos, [0, 1, 2], patch, { random: new TorchRandom() });
 * console.log(batch.images.shape, batch.positions?.shape); // [3, 3, 8, 8] and [3, 2, 8, 8]
 * await photos.close();
 * ```
 */
export function makePatchBatch(
  source: PatchSource,
  indices: ArrayLike<number>,
  patch: Extent,
  options: PatchBatchOptions,
): PatchBatch {
  const { random, positionRandom = random, device = 'cpu', augmentImages } = options;
  const isWhole = patch.height === source.height && patch.width === source.width;
  const withEnergy = options.withEnergy && !isWhole;
  const labels = source.labelDim
    ? torch.tensor(source.labels(indices), { shape: [indices.length, source.labelDim], device })
    : null;
  if (!augmentImages) {
    const offsets = drawOffsets(indices.length, patch, source, positionRandom);
    const images = gatherImages(source, indices, patch, offsets, random, device);
    return {
      images,
      positions: patchPositions(patch, source, offsets, device),
      labels,
      energyOutside: withEnergy ? energyOutside(images, { source, indices }) : null,
    };
  }
  return torch.scope(() => {
    const whole = gatherImages(source, indices, source, null, random, device); // [N, C, H, W]
    const offsets = drawOffsets(indices.length, patch, source, positionRandom);
    const augmented = augmentImages(whole, random);
    const images = extractPatches(augmented.images, patch, offsets);
    return {
      images,
      positions: patchPositions(patch, source, offsets, device),
      labels,
      augmentLabels: augmented.labels,
      energyOutside: withEnergy ? energyOutside(images, augmented.images) : null,
    };
  });
}

/** The pixels or latents of crops (whole images without offsets), [N, C, P, P]. */
function gatherImages(
  source: PatchSource,
  indices: ArrayLike<number>,
  { height, width }: Extent,
  offsets: PatchOffsets | null,
  random: RandomSource,
  device: Device,
): Tensor {
  if (source.cut) return torch.scope(() => toUnit(source.cut!(indices, { height, width }, offsets)));
  const corner = (t: Tensor) => t.to({ dtype: 'int32' }).toTypedArray() as Int32Array;
  const zeros = () => new Int32Array(indices.length);
  const values = source.gather(indices, {
    size: { height, width },
    rows: offsets ? corner(offsets.rows) : zeros(),
    cols: offsets ? corner(offsets.cols) : zeros(),
  });
  const shape = [indices.length, source.channels, height, width];
  if (values instanceof Uint8Array) return pixelsToFloat(values, shape, device);
  return sampleLatents(torch.tensor(values, { shape: [2, ...shape], device }), source.latents!, random);
}

/**
 * 8-bit pixels → float32 in [−1, 1].
 * @example
 * ```ts
 * const pixels = Uint8Array.of(0, 128, 255);
 * const values = pixelsToFloat(pixels, [1, 3, 1, 1]); // −1, 0.004, 1
 * ```
 */
export function pixelsToFloat(pixels: Uint8Array, shape: number[], device: Device = 'cpu'): Tensor {
  return torch.scope(() => toUnit(torch.tensor(pixels, { shape, device })));
}

/** 0 … 255 → [−1, 1]. */
const toUnit = (pixels: Tensor): Tensor => pixels.to({ dtype: 'float32' }).div(127.5).sub(1);

/**
 * Draws scaled latents (Rombach et al. 2022) from the stored distributions of their codes.
 * @param moments means and standard deviations of the codes, [2, N, C, P, P]
 * @returns [N, C, P, P]
 */
function sampleLatents(
  moments: Tensor,
  { scale, shift }: { readonly scale: number; readonly shift: number },
  random: RandomSource,
): Tensor {
  return torch.scope(() => {
    const [mean, std] = moments.unbind(0) as [Tensor, Tensor];
    const code = torch.addcmul(mean, std, random.randn('posterior', mean.shape));
    return (shift === 0 ? code : code.sub(shift)).mul(scale);
  });
}
