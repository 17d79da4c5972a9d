/**
 * Lanczos-3 resampling that equals Pillow's 8-bit `Image.resize(size, LANCZOS)` bit for bit.
 *
 * Datasets are resized with Pillow in the reference, and FID depends on the resampler, so close is not enough:
 * libvips' Lanczos differs by several levels. As in Pillow the kernel widens with the reduction (antialiasing), the
 * weights are 22-bit fixed-point numbers, and the result is rounded to 8 bits after the horizontal and again after
 * the vertical pass. No alpha premultiplication, no colour management: callers pass plain channels.
 */
import { type Kernel, makeKernel, resampleColumns, resampleRows } from './resample.js';

/** Pixels with interleaved channels, [H, W, C], 8 bits each. */
export interface RawImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** A band of the file that is neither colour nor opacity: the fourth channel here, or left out. */
  readonly extraBand?: 'kept' | 'dropped';
}

/** A rectangle of pixels. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

const PRECISION_BITS = 22;
const LANCZOS_RADIUS = 3;

/**
 * Resizes `box` (default: all) of an image to `width` × `height`.
 *
 * @returns a new image [height, width, C]
 * @throws RangeError if a side is not a positive integer or the box leaves the image
 */
export function resizeLanczos(image: RawImage, width: number, height: number, box?: Box): RawImage {
  const { left, top, width: boxWidth, height: boxHeight } = checkedBox(image, box);
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new RangeError(`Cannot resize to ${width} × ${height} pixels`);
  }
  let current = image;
  let [x, y] = [left, top];
  if (width !== boxWidth) {
    current = horizontalPass(current, { left: x, top: y, width: boxWidth, height: boxHeight }, width);
    [x, y] = [0, 0];
  }
  if (height !== boxHeight) {
    current = verticalPass(current, { left: x, top: y, width, height: boxHeight }, height);
    [x, y] = [0, 0];
  }
  return cropImage(current, { left: x, top: y, width, height });
}

/** The pixels of `box`, as a copy unless it is the whole image. @throws RangeError if it leaves the image */
export function cropImage(image: RawImage, box: Box): RawImage {
  const { left, top, width, height } = checkedBox(image, box);
  if (width === image.width && height === image.height) return image;
  const { channels } = image;
  const data = new Uint8Array(width * height * channels);
  for (let row = 0; row < height; row++) {
    const start = ((top + row) * image.width + left) * channels;
    data.set(image.data.subarray(start, start + width * channels), row * width * channels);
  }
  return { data, width, height, channels };
}

function checkedBox(image: RawImage, box: Box | undefined): Box {
  const { left, top, width, height } = box ?? { left: 0, top: 0, width: image.width, height: image.height };
  const fits =
    left >= 0 &&
    top >= 0 &&
    width >= 1 &&
    height >= 1 &&
    left + width <= image.width &&
    top + height <= image.height;
  if (!fits || ![left, top, width, height].every(Number.isInteger)) {
    throw new RangeError(
      `Box ${width} × ${height} at (${left}, ${top}) is not inside an image of ${image.width} × ${image.height}`,
    );
  }
  return { left, top, width, height };
}

function horizontalPass(image: RawImage, box: Box, width: number): RawImage {
  const { channels } = image;
  const stride = image.width * channels;
  const start = box.top * stride + box.left * channels;
  const rows = { data: image.data, start, stride, count: box.height, channels };
  const data = resampleRows(rows, lanczosKernel(box.width, width));
  return { data, width, height: box.height, channels };
}

function verticalPass(image: RawImage, box: Box, height: number): RawImage {
  const { channels } = image;
  const stride = image.width * channels;
  const start = box.top * stride + box.left * channels;
  const rows = { data: image.data, start, stride, count: box.height };
  const data = resampleColumns(rows, box.width * channels, lanczosKernel(box.height, height));
  return { data, width: box.width, height, channels };
}

// Datasets are resized from few distinct sizes, often from one.
const kernelCache = new Map<string, Kernel>();

function lanczosKernel(inputSize: number, outputSize: number): Kernel {
  const key = `${inputSize}:${outputSize}`;
  const cached = kernelCache.get(key);
  if (cached) return cached;
  const scale = inputSize / outputSize;
  const filterScale = Math.max(scale, 1);
  const inverseScale = 1 / filterScale;
  const support = LANCZOS_RADIUS * filterScale;
  // One more than there can be taps: the passes read two at a time.
  const stride = Math.ceil(support) * 2 + 2;
  const first = new Int32Array(outputSize);
  const taps = new Int32Array(outputSize);
  const weights = new Int32Array(outputSize * stride);
  const exact = new Float64Array(stride);
  for (let x = 0; x < outputSize; x++) {
    const centre = (x + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inputSize, Math.trunc(centre + support + 0.5)) - start;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      exact[i] = lanczos((i + start - centre + 0.5) * inverseScale);
      sum += exact[i];
    }
    for (let i = 0; i < count; i++) {
      const weight = (exact[i] / sum) * (1 << PRECISION_BITS);
      weights[x * stride + i] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    first[x] = start;
    taps[x] = count;
  }
  const kernel = makeKernel(first, taps, weights, stride);
  if (kernelCache.size >= 64) kernelCache.clear();
  kernelCache.set(key, kernel);
  return kernel;
}

function lanczos(x: number): number {
  return x >= -LANCZOS_RADIUS && x < LANCZOS_RADIUS ? sinc(x) * sinc(x / LANCZOS_RADIUS) : 0;
}

function sinc(x: number): number {
  if (x === 0) return 1;
  const angle = x * Math.PI;
  return Math.sin(angle) / angle;
}
