/**
 * Bringing an image to the size of the dataset: which part of it is taken, and how it is resized (always with
 * Pillow's Lanczos, see resize.ts). `center-crop`, `center-crop-wide` and `none` are the reference tool's transforms.
 */
import { UnusableImage } from './decode.js';
import { type RawImage, resizeLanczos } from './resize.js';
import { roundHalfEven } from './sampler.js';
import type { ImageChannels, Size, Transform } from './types.js';

/**
 * Brings an image to `size`.
 *
 * - `center-crop`: the largest centred part with the proportions of `size`, resized
 * - `center-crop-wide`: cropped to the proportions of `size`, resized, on a black square of side `size.width`
 * - `stretch`, `none`: the whole image, resized without regard to its proportions
 *
 * @throws UnusableImage if the image is too small (`center-crop-wide` only)
 */
export function transformImage(image: RawImage, transform: Transform, size: Size): RawImage {
  if (image.channels !== 4 || image.extraBand === 'kept') return fitTo(image, transform, size);
  // What is behind transparent pixels must not bleed into others: as in Pillow, colours are weighted by alpha.
  return divideByAlpha(fitTo(multiplyByAlpha(image), transform, size));
}

function fitTo(image: RawImage, transform: Transform, size: Size): RawImage {
  const { width, height } = size;
  if (transform === 'center-crop') return centreCrop(image, size);
  if (transform === 'center-crop-wide') return centreCropWide(image, size);
  return resizeLanczos(image, width, height);
}

function multiplyByAlpha(image: RawImage): RawImage {
  const data = image.data.slice();
  for (let i = 0; i < data.length; i += 4) {
    for (let c = i; c < i + 3; c++) data[c] = Math.round((data[c] * data[i + 3]) / 255);
  }
  return { ...image, data };
}

function divideByAlpha(image: RawImage): RawImage {
  const data = image.data.slice();
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    for (let c = i; c < i + 3; c++) data[c] = alpha ? Math.min(255, Math.round((data[c] * 255) / alpha)) : 0;
  }
  return { ...image, data };
}

/** Size of the images that {@link transformImage} makes. */
export function transformedSize(transform: Transform, size: Size): Size {
  return transform === 'center-crop-wide' ? { width: size.width, height: size.width } : size;
}

function centreCrop(image: RawImage, { width, height }: Size): RawImage {
  const aspect = width / height;
  const cropWidth = Math.max(1, Math.min(image.width, Math.round(image.height * aspect)));
  const cropHeight = Math.max(1, Math.min(image.height, Math.round(image.width / aspect)));
  return resizeLanczos(image, width, height, {
    left: (image.width - cropWidth) >> 1,
    top: (image.height - cropHeight) >> 1,
    width: cropWidth,
    height: cropHeight,
  });
}

function centreCropWide(image: RawImage, { width, height }: Size): RawImage {
  const cropHeight = roundHalfEven((width * image.height) / image.width);
  if (image.width < width || cropHeight < height) {
    throw new UnusableImage(
      `${image.width} × ${image.height} pixels, too small or too wide for ${width} × ${height}`,
    );
  }
  const top = (image.height - cropHeight) >> 1;
  const bottom = (image.height + cropHeight) >> 1;
  const resized = resizeLanczos(image, width, height, {
    left: 0,
    top,
    width: image.width,
    height: bottom - top,
  });
  const data = new Uint8Array(width * width * image.channels);
  data.set(resized.data, ((width - height) >> 1) * width * image.channels);
  return { data, width, height: width, channels: image.channels };
}

/**
 * Grey to RGB by repetition; RGB to grey by luma (ITU-R 601, as Pillow's `convert('L')`); images without alpha become
 * opaque ones.
 */
export function toChannels(image: RawImage, channels: ImageChannels): RawImage {
  const { data: source, width, height } = image;
  if (image.channels === channels) return image;
  const data = new Uint8Array(width * height * channels);
  for (let i = 0; i < width * height; i++) {
    if (channels === 4) {
      for (let c = 0; c < 3; c++) data[4 * i + c] = source[image.channels === 3 ? 3 * i + c : i];
      data[4 * i + 3] = 255;
    } else if (channels === 3) {
      data.fill(source[i], 3 * i, 3 * i + 3);
    } else {
      const luma = source[3 * i] * 19595 + source[3 * i + 1] * 38470 + source[3 * i + 2] * 7471;
      data[i] = (luma + 0x8000) >> 16;
    }
  }
  return { data, width, height, channels };
}

/** Whether an image has exactly this size. */
export function hasSize(image: { width: number; height: number }, size: Size): boolean {
  return image.width === size.width && image.height === size.height;
}
