/** One image of a source as a data set has it: decoded, cropped, resized, with the channels that are wanted. */
import type { DecodeOptions } from './decode.js';
import { encodePng } from './png.js';
import type { RawImage } from './resize.js';
import { hasSize, toChannels, transformImage } from './transform.js';
import type { ImageChannels, Size, Transform } from './types.js';

/** What every image becomes. */
export interface ImageSpec {
  readonly size: Size;
  readonly channels: ImageChannels;
  readonly transform: Transform;
  /** A PNG file instead of pixels. */
  readonly png: boolean;
}

export interface MadeImage {
  /** Pixels [H, W, C], or the PNG file. */
  readonly data: Uint8Array;
  /** The image was smaller than the size that it has now. */
  readonly isEnlarged: boolean;
  /** A band of the file that is neither colour nor opacity was left out. */
  readonly hasDroppedBand: boolean;
}

/** @param decode see `ImageSource.decode` @throws UnusableImage */
export async function makeImage(
  decode: (options: DecodeOptions) => Promise<RawImage>,
  { size, channels, transform, png }: ImageSpec,
): Promise<MadeImage> {
  // Of a wide crop, it is the proportions that tell whether it is large enough.
  const image = await decode({
    alpha: channels === 4,
    ...(transform === 'center-crop-wide' ? {} : { size }),
  });
  const resized = hasSize(image, size) ? image : transformImage(image, transform, size);
  const made = toChannels(resized, channels);
  return {
    data: png ? encodePng(made) : made.data,
    isEnlarged: image.width < size.width || image.height < size.height,
    hasDroppedBand: image.extraBand === 'dropped',
  };
}
