/**
 * Training images on a GPU, as uint8: a patch is cut where it is needed, and of an update only numbers of images and positions
 * go there. Each image is copied when it is first asked for, so that training does not wait for all of them.
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type PatchOffsets, pixelIndices } from '../patches/crops.js';
import type { Extent } from '../patches/extent.js';
import type { Crop } from '../patches/patch-source.js';
import type { DataSet } from './types.js';
import { Subset } from './views.js';

/** Images may take this share of a GPU's memory. */
const MEMORY_SHARE = 0.25;

/** A set whose images also lie on a device. */
export class DeviceImages extends Subset {
  readonly #device: Device;
  /** All images, mirrored ones left out, [images · C · H · W]. */
  readonly #pixels: Tensor;
  /** 1 where an image is on the device. */
  readonly #isThere: Uint8Array;

  /** @param whole images, no latents */
  constructor(whole: DataSet, device: Device) {
    const all = Int32Array.from({ length: whole.baseLength }, (_, i) => i);
    super(whole, all, whole.length > whole.baseLength);
    this.#device = device;
    this.#isThere = new Uint8Array(whole.baseLength);
    this.#pixels = torch.keep(
      torch.zeros([whole.baseLength, this.channels, this.height, this.width], { dtype: 'uint8', device }),
    );
  }

  cut(indices: ArrayLike<number>, patch: Extent, offsets: PatchOffsets | null): Tensor {
    return torch.scope(() => {
      const images = Array.from(indices, (index) => index % this.baseLength);
      this.#bring(images.filter((image) => this.#isThere[image] === 0));
      const { channels: C, height: H, width: W } = this;
      const N = images.length;
      const number = (values: ArrayLike<number>) =>
        torch.tensor(Int32Array.from(values), { dtype: 'int64', shape: [N, 1, 1], device: this.#device });
      const isMirrored = number(Array.from(indices, (index) => Number(index >= this.baseLength)));
      const zeros = torch.zeros([N], { dtype: 'int64' });
      const corners = offsets ?? { rows: zeros, cols: zeros };
      const { rowIndex, colIndex } = pixelIndices(patch, corners, this.#device);
      // From the right where the image is mirrored: W − 1 − column.
      const columns = colIndex.add(isMirrored.mul(colIndex.mul(-2).add(W - 1)));
      const first = number(images)
        .mul(C * H * W)
        .add(rowIndex.mul(W))
        .add(columns); // [N, P, P]
      const planes = torch.arange(C, { dtype: 'int64', device: this.#device }).mul(H * W);
      const places = first.unsqueeze(1).add(planes.reshape([1, C, 1, 1])); // [N, C, P, P]
      return this.#pixels.flatten().take(places);
    });
  }

  /** Copies images to the device. They must be ready. */
  #bring(images: readonly number[]): void {
    const missing = [...new Set(images)];
    if (missing.length === 0) return;
    const zeros = new Int32Array(missing.length);
    const crop: Crop = { size: this, rows: zeros, cols: zeros };
    const shape = [missing.length, this.channels, this.height, this.width];
    const pixels = torch.tensor(this.gather(missing, crop) as Uint8Array, { shape, device: this.#device });
    for (const [k, image] of missing.entries()) {
      this.#pixels.select(0, image).copy_(pixels.select(0, k));
      this.#isThere[image] = 1;
    }
  }
}

/** Whether the images of a set (no latents) fit into a GPU's memory, beside what training needs. */
export function fitsOnDevice(
  { latents, baseLength, channels, height, width }: DataSet,
  device: Device,
): boolean {
  const { totalBytes } = torch.cudaDeviceInfo(Number(device.split(':')[1] ?? 0));
  return latents === null && baseLength * channels * height * width <= totalBytes * MEMORY_SHARE;
}
