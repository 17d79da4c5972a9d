/**
 * Resampling images through an affine map, nearly without aliasing: mirror at the edges, upsample by 2 with a wavelet
 * filter, interpolate bilinearly, downsample by 2 with the same filter (Karras et al. 2020, appendix B). How far the
 * edges must be extended depends on the maps, so planning waits for the device once per batch.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { Extent } from '../../patches/extent.js';

/** Decomposition low-pass filter of the wavelet sym6 (Daubechies 1992, least asymmetric, 6 vanishing moments). */
const SYM6 = [
  0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
  0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
  0.0017677118642428036, -0.007800708325034148,
];
/** Pixels at each edge that the filter spoils and that are cropped at the end. */
const MARGIN = SYM6.length / 4;

/** How a batch is to be resampled. */
export interface WarpPlan {
  /** Pixels of mirrored edge: left, right, top, bottom; the same for all samples. */
  readonly pad: readonly [left: number, right: number, top: number, bottom: number];
  /** Map from output to input positions in normalised coordinates, [N, 2, 3]. */
  readonly theta: Tensor;
}

/**
 * Fits the maps of a batch to the extended, upsampled images.
 * @param map from output to input positions in pixels around the centre, [N, 3, 3]
 */
export function planWarp(map: Tensor, { height: H, width: W }: Extent): WarpPlan {
  // Where the corners of the output come from, over the whole batch.
  const [cx, cy] = [(W - 1) / 2, (H - 1) / 2];
  const corners = constant(map, [
    [-cx, cx, cx, -cx],
    [-cy, -cy, cy, cy],
    [1, 1, 1, 1],
  ]);
  const [x, y] = map.matmul(corners).unbind(1); // [N, 4]
  const reach = torch.stack([x.neg().max(), y.neg().max(), x.max(), y.max()]);
  const needed = reach.add(
    constant(map, [2 * MARGIN - cx, 2 * MARGIN - cy, 2 * MARGIN - cx, 2 * MARGIN - cy]),
  );
  const limits = constant(map, [W - 1, H - 1, W - 1, H - 1]);
  const [left, top, right, bottom] = needed.clampMin(0).minimum(limits).ceil().toFloat32Array();

  // The centre moves with the padding; a doubled image has its pixels' centres half a pixel off.
  const padded = { width: W + left + right, height: H + top + bottom };
  const target = { width: (W + 2 * MARGIN) * 2, height: (H + 2 * MARGIN) * 2 };
  const chain = [
    scaleBy(map, 1 / padded.width, 1 / padded.height), // 2 / (2 · padded)
    shiftBy(map, -0.5, -0.5),
    scaleBy(map, 2, 2),
    shiftBy(map, (left - right) / 2, (top - bottom) / 2),
    map,
    scaleBy(map, 0.5, 0.5),
    shiftBy(map, 0.5, 0.5),
    scaleBy(map, target.width / 2, target.height / 2),
  ];
  const normalised = chain.reduce((product, factor) => product.matmul(factor));
  return { pad: [left, right, top, bottom], theta: normalised.narrow(1, 0, 2) };
}

/** Resamples images as planned: [N, C, H, W] → the same shape. */
export function warpImages(images: Tensor, { pad, theta }: WarpPlan): Tensor {
  const [N, C, H, W] = images.shape;
  const extended = pad.some((n) => n > 0) ? images.reflectionPad2d(pad) : images;
  const fine = upsample(extended);
  const size = [N, C, (H + 2 * MARGIN) * 2, (W + 2 * MARGIN) * 2];
  const grid = torch.affineGridGenerator(theta, size, false);
  return downsample(torch.gridSampler(fine, grid, BILINEAR, ZEROS_OUTSIDE, false));
}

/** libtorch's numbers for these choices. */
const BILINEAR = 0;
const ZEROS_OUTSIDE = 0;

/** Doubles both sides; each filter tap meets only real samples, so this is a transposed convolution. */
function upsample(images: Tensor): Tensor {
  const { across, down } = filters(images);
  const pad = SYM6.length / 2 - 1;
  return perChannel(images, (x) => {
    const wide = torch.convTranspose2d(x, across, null, [1, 2], [0, pad]);
    return torch.convTranspose2d(wide, down, null, [2, 1], [pad, 0]);
  });
}

/** Halves both sides and crops the margins. */
function downsample(images: Tensor): Tensor {
  const { across, down } = filters(images);
  const pad = (SYM6.length - 1) >> 1;
  const crop = (x: Tensor, dim: number) => x.narrow(dim, MARGIN, x.shape[dim] - 2 * MARGIN);
  return perChannel(images, (x) => {
    const narrow = crop(torch.conv2d(x, across, null, [1, 2], [0, pad]), 3);
    return crop(torch.conv2d(narrow, down, null, [2, 1], [pad, 0]), 2);
  });
}

/** Treats every channel as an image of its own. */
function perChannel(images: Tensor, apply: (x: Tensor) => Tensor): Tensor {
  const [N, C, H, W] = images.shape;
  const result = apply(images.reshape([N * C, 1, H, W]));
  return result.reshape([N, C, result.shape[2], result.shape[3]]);
}

function filters({ device }: Tensor): { across: Tensor; down: Tensor } {
  const taps = torch.tensor(Float32Array.from(SYM6), { device });
  return { across: taps.reshape([1, 1, 1, -1]), down: taps.reshape([1, 1, -1, 1]) };
}

function constant({ device, dtype }: Tensor, values: number[] | number[][]): Tensor {
  return torch.tensor(values, { dtype, device });
}

function scaleBy(like: Tensor, x: number, y: number): Tensor {
  return constant(like, [
    [x, 0, 0],
    [0, y, 0],
    [0, 0, 1],
  ]);
}

function shiftBy(like: Tensor, x: number, y: number): Tensor {
  return constant(like, [
    [1, 0, x],
    [0, 1, y],
    [0, 0, 1],
  ]);
}
