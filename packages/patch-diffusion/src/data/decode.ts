/**
 * From the bytes of an image file to 8-bit RGB or grey pixels.
 *
 * Everything that files in the wild bring along is converted explicitly: EXIF orientation is applied, animations give
 * their first frame, palettes, CMYK and 16-bit samples become 8-bit sRGB (embedded colour profiles are honoured),
 * transparency is laid over white or kept. Files that cannot be used raise an {@link UnusableImage} whose message is a short
 * phrase for a report; it is the caller's business whether that skips a file or stops.
 */
import sharp, { type Metadata, type SharpOptions } from 'sharp';
import { decodeStoredPng } from './png.js';
import type { RawImage } from './resize.js';

/** Images of more pixels are refused: decoded, they take 3 bytes per pixel, and a hostile file can claim any size. */
const MAX_PIXELS = 100_000_000;

/** Larger files are refused: they are read into memory whole. */
export const MAX_FILE_BYTES = 2 ** 29;

/** Formats by the file's content; the extension does not count. */
const FORMATS = new Set(['jpeg', 'png', 'webp', 'gif', 'avif', 'heif', 'tiff']);

/** Reason why an image file cannot be used; `message` is a phrase such as `empty file`. */
export class UnusableImage extends Error {
  override readonly name = 'UnusableImage';
}

/** What an image will be once decoded. */
export interface ImageHeader {
  readonly width: number;
  readonly height: number;
  readonly isGrey: boolean;
  readonly hasAlpha?: boolean;
}

const OPTIONS: SharpOptions = {
  // Warnings (odd metadata, stray bytes) do not harm the pixels; missing pixels are errors.
  failOn: 'error',
  limitInputPixels: MAX_PIXELS,
  autoOrient: true,
};

/**
 * Reads only the header. @param input path of a file, or its bytes
 * @throws UnusableImage
 */
export async function readImageHeader(input: string | Uint8Array): Promise<ImageHeader> {
  try {
    return headerOf(await sharp(input, { ...OPTIONS, limitInputPixels: false }).metadata());
  } catch (error) {
    throw asUnusable(error);
  }
}

/**
 * Decodes an image to 8-bit pixels [H, W, C], with 1 channel for grey images, else 3.
 *
 * @param alpha keeps the transparency of images that have some: 4 channels, colours as stored
 * @throws UnusableImage
 */
export async function decodeImage(bytes: Uint8Array, alpha = false): Promise<RawImage> {
  if (bytes.length === 0) throw new UnusableImage('empty file');
  const plain = decodeStoredPng(bytes);
  if (plain !== null && (alpha || plain.channels < 4) && plain.width * plain.height <= MAX_PIXELS)
    return plain;
  try {
    return await decodeByVips(bytes, alpha, false);
  } catch (error) {
    if (error instanceof UnusableImage) throw error;
  }
  // libvips keeps its error messages in one place for all threads, where others overwrite them: only alone does a
  // file get its own.
  try {
    return await decodeByVips(bytes, alpha, true);
  } catch (error) {
    throw asUnusable(error);
  }
}

async function decodeByVips(bytes: Uint8Array, alpha: boolean, alone: boolean): Promise<RawImage> {
  const image = sharp(bytes, OPTIONS);
  const metadata = await image.metadata();
  const { width, height, isGrey } = headerOf(metadata);
  return pixelBudget.use(alone ? Number.MAX_SAFE_INTEGER : width * height, async () => {
    const keepsAlpha = alpha && metadata.hasAlpha;
    if (metadata.hasAlpha && !alpha) image.flatten({ background: 'white' });
    // 16-bit grey goes by way of sRGB: libvips' direct way to 8-bit grey is off by one level here and there.
    const { data, info } = await image
      .toColourspace(metadata.space === 'b-w' && !keepsAlpha ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const decoded = { data, width: info.width, height: info.height, channels: info.channels };
    return isGrey && !keepsAlpha ? firstChannel(decoded) : decoded;
  });
}

function firstChannel(image: RawImage): RawImage {
  const { data, width, height, channels } = image;
  if (channels === 1) return image;
  return { data: data.filter((_, i) => i % channels === 0), width, height, channels: 1 };
}

/** Samples that libvips would cut off at 0 and 255 instead of scaling them. */
const OTHER_SAMPLES: Readonly<Record<string, string>> = {
  char: 'signed 8-bit',
  short: 'signed 16-bit',
  uint: '32-bit',
  int: '32-bit',
  float: '32-bit',
  double: '64-bit',
  complex: 'complex',
  dpcomplex: 'complex',
};

function headerOf(metadata: Metadata): ImageHeader {
  const { format, space, autoOrient, depth } = metadata;
  if (!FORMATS.has(format)) throw new UnusableImage(`${format} content, which is not supported`);
  const samples = OTHER_SAMPLES[depth];
  if (samples) throw new UnusableImage(`has ${samples} samples; convert it to 8 or 16 bits`);
  const { width, height } = autoOrient;
  if (width * height > MAX_PIXELS) {
    throw new UnusableImage(
      `${width} × ${height} pixels, more than the limit of ${MAX_PIXELS / 1e6} million`,
    );
  }
  return { width, height, isGrey: space === 'b-w' || space === 'grey16', hasAlpha: metadata.hasAlpha };
}

function asUnusable(error: unknown): UnusableImage {
  if (error instanceof UnusableImage) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (/unsupported image format/i.test(text))
    return new UnusableImage('not an image (or of an unknown format)');
  const detail = text.replace(/\s+/g, ' ').trim();
  const isTruncated = /premature end|truncated|unexpected end|end of stream|not enough data/i.test(text);
  return new UnusableImage(isTruncated ? `truncated (${detail})` : `cannot be decoded (${detail})`);
}

/**
 * Lets decoders run side by side as long as their pixels fit; an image above the whole budget runs alone. Without
 * this, a handful of 100-megapixel photos at once would take gigabytes.
 */
class PixelBudget {
  #inUse = 0;
  readonly #waiting: { pixels: number; start: () => void }[] = [];

  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async use<T>(pixels: number, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#fits(pixels)) {
      await new Promise<void>((start) => this.#waiting.push({ pixels, start }));
    } else {
      this.#inUse += pixels;
    }
    try {
      return await work();
    } finally {
      this.#inUse -= pixels;
      while (this.#waiting.length > 0 && this.#fits(this.#waiting[0].pixels)) {
        const next = this.#waiting.shift()!;
        this.#inUse += next.pixels;
        next.start();
      }
    }
  }

  #fits(pixels: number): boolean {
    return this.#inUse === 0 || this.#inUse + pixels <= this.#limit;
  }
}

const pixelBudget = new PixelBudget(MAX_PIXELS);
