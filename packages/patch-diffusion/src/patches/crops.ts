/**
 * Patches with coordinates (Patch Diffusion, section 3.1): square crops of a batch of images, and for every pixel its
 * position in the whole image as two extra channels. Works for any channel count and for images that are not square.
 * Shapes: N batch, C channels, H W image, P patch side.
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import { coordinateGrid, type Window } from './coordinate-grid.js';
import { type Extent, POSITION_CHANNELS } from './extent.js';
import { offsetCounts } from './offsets.js';

/** Where each sample's patch lies in its image: offsets of the top-left pixel. */
export interface PatchOffsets {
  /** Row offsets, int64 [N]. */
  readonly rows: Tensor;
  /** Column offsets, int64 [N]. */
  readonly cols: Tensor;
}

/**
 * Draws a uniform position per sample; a patch as large as the image stays at the origin without a draw.
 * @example
 * ```ts
 * const [patch, image] = [{ height: 16, width: 16 }, { height: 64, width: 64 }];
 * const { rows, cols } = drawOffsets(8, patch, image, new TorchRandom()); // each [8], 0 … 48
 * ```
 */
export function drawOffsets(count: number, patch: Extent, image: Extent, random: RandomSource): PatchOffsets {
  const places = offsetCounts(patch, image);
  if (places.rows === 1 && places.cols === 1) {
    const zeros = torch.zeros([count], { dtype: 'int64' });
    return { rows: zeros, cols: zeros };
  }
  const rows = random.randint('i', 0, places.rows, [count]);
  const cols = random.randint('j', 0, places.cols, [count]);
  return { rows, cols };
}

/**
 * Cuts one patch out of each image.
 * @param images [N, C, H, W]
 * @returns [N, C, P, P]
 * @example
 * ```ts
 * const [patch, image] = [{ height: 16, width: 16 }, { height: 64, width: 64 }];
 * const offsets = drawOffsets(8, patch, image, new TorchRandom());
 * const patches = extractPatches(torch.rand([8, 3, 64, 64]), patch, offsets); // [8, 3, 16, 16]
 * ```
 */
export function extractPatches(images: Tensor, patch: Extent, { rows, cols }: PatchOffsets): Tensor {
  return torch.scope(() => {
    const [N, C, H, W] = images.shape;
    if (patch.height === H && patch.width === W) return images.clone();
    const { rowIndex, colIndex } = pixelIndices(patch, { rows, cols }, images.device);
    const flat = rowIndex.mul(W).add(colIndex).reshape([N, 1, -1]); // [N, 1, P·P]
    const pixels = images.reshape([N, C, H * W]).gather(2, flat.expand([N, C, -1]));
    return pixels.reshape([N, C, patch.height, patch.width]);
  });
}

/**
 * The coordinate channels of patches: channel 0 is x (grows with the column), channel 1 is y (grows with the row),
 * each scaled so that the whole image spans [−1, 1].
 * @returns float32 [N, 2, P, P]
 * @example
 * ```ts
 * const [patch, image] = [{ height: 16, width: 16 }, { height: 64, width: 64 }];
 * const offsets = drawOffsets(8, patch, image, new TorchRandom());
 * const positions = patchPositions(patch, image, offsets); // [8, 2, 16, 16]
 * ```
 */
export function patchPositions(
  patch: Extent,
  image: Extent,
  offsets: PatchOffsets,
  device: Device = 'cpu',
): Tensor {
  return torch.scope(() => {
    const { rowIndex, colIndex } = pixelIndices(patch, offsets, device);
    const shape = [offsets.rows.shape[0], patch.height, patch.width];
    const x = scaleToUnit(colIndex, image.width).expand(shape);
    const y = scaleToUnit(rowIndex, image.height).expand(shape);
    return torch.stack([x, y], 1);
  });
}

/**
 * The coordinate channels of a window of the image plane, shared by all samples: float32 [1, 2, H, W].
 * @example
 * ```ts
 * const image = { height: 64, width: 64 };
 * const whole = windowPositions(image, image); // [1, 2, 64, 64], from −1 to 1
 * ```
 */
export function windowPositions(window: Window, image: Extent, device: Device = 'cpu'): Tensor {
  const shape = [1, POSITION_CHANNELS, window.height, window.width];
  return torch.tensor(coordinateGrid(window, image), { shape, device });
}

/** From the host's memory a tensor goes to a GPU by way of an array: that copy does not wait for the GPU's other work. */
function onDevice(t: Tensor, device: Device): Tensor {
  if (t.device === device) return t;
  if (t.device !== 'cpu') return t.to({ device });
  return torch.tensor(t.toTypedArray(), { dtype: t.dtype, shape: t.shape, device });
}

/** Pixel positions in the image: rows [N, P, 1] and columns [N, 1, P]. */
export function pixelIndices(
  patch: Extent,
  { rows, cols }: PatchOffsets,
  device: Device,
): { rowIndex: Tensor; colIndex: Tensor } {
  const down = torch.arange(patch.height, { dtype: 'int64', device }).reshape([1, -1, 1]);
  const across = torch.arange(patch.width, { dtype: 'int64', device }).reshape([1, 1, -1]);
  return {
    rowIndex: onDevice(rows, device).reshape([-1, 1, 1]).add(down),
    colIndex: onDevice(cols, device).reshape([-1, 1, 1]).add(across),
  };
}

/** Position p of `size` pixels → (p / (size − 1) − ½) · 2. */
function scaleToUnit(position: Tensor, size: number): Tensor {
  return position
    .to({ dtype: 'float32' })
    .div(size - 1)
    .sub(0.5)
    .mul(2);
}
