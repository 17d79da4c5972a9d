/** What patches are cut from. */
import type { Tensor } from '@patch-diffusion/torch';
import type { PatchOffsets } from './crops.js';
import type { Extent } from './extent.js';

/** Where to cut each image of a batch. Positions are counted in the image as it is delivered (after mirroring). */
export interface Crop {
  readonly size: number | Extent;
  /** Top row of each crop. */
  readonly rows: ArrayLike<number>;
  /** Left column of each crop. */
  readonly cols: ArrayLike<number>;
}

/** Images or latents of one size that patches are cut from. */
export interface PatchSource extends Extent {
  readonly channels: number;
  /** Number of classes or length of the label vectors; 0 without labels. */
  readonly labelDim: number;
  /** For latents: latent = (code − shift) · scale. Null for images. */
  readonly latents: { readonly scale: number; readonly shift: number } | null;
  /**
   * A crop of each item; only the crop's pixels are touched.
   * @returns images: uint8 [N, C, P, P]; latents: means and standard deviations of the codes, float32 [2, N, C, P, P]
   */
  gather(indices: ArrayLike<number>, crop: Crop): Uint8Array | Float32Array;
  /**
   * Crops of images that lie on the device that trains; a source without it has them in the host's memory. Does not wait.
   * @param offsets null for whole images
   * @returns uint8 [N, C, P, P]
   */
  cut?(indices: ArrayLike<number>, patch: Extent, offsets: PatchOffsets | null): Tensor;
  /** Labels of the items; one-hot for classes: float32 [N, labelDim]. */
  labels(indices: ArrayLike<number>): Float32Array;
}
