/**
 * From the bytes of an image file to 8-bit RGB or grey pixels.
 *
 * Everything that files in the wild bring along is converted explicitly: EXIF orientation is applied, animations give
 * their first frame, palettes, CMYK and 16-bit samples become 8-bit sRGB (embedded colour profiles are honoured),
 * transparency is laid over white or kept. Files that cannot be used raise an {@link UnusableImage} whose message is a short
 * phrase for a report; it is the caller's business whether that skips a file or stops.
 */
import type { Metadata, Sharp, SharpInput, SharpOptions } from 'sharp';
import { Budget } from './concurrency.js';
import { decodePlainPng } from './png.js';
import type { RawImage } from './resize.js';
import { type TiffBands, tiffBands } from './tiff-bands.js';
import type { Size } from './types.js';

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
  /** A fourth band, or a second one of a grey image, that is not opacity. */
  readonly hasExtraBand?: boolean;
}

/** libvips is loaded when the first file needs it: sets of plain PNGs do without. */
async function vips(input: SharpInput, options: SharpOptions): Promise<Sharp> {
  const { default: sharp } = await import('sharp');
  return sharp(input, options);
}

const OPTIONS: SharpOptions = {
  // Warnings (odd metadata, stray bytes) do not harm the pixels; missing pixels are errors.
  failOn: 'error',
  limitInputPixels: MAX_PIXELS,
  // The header tells how many there are.
  limitInputChannels: false,
  autoOrient: true,
};

/**
 * Reads only the header. @param input path of a file, or its bytes
 * @throws UnusableImage
 */
export async function readImageHeader(input: string | Uint8Array): Promise<ImageHeader> {
  const plain = typeof input === 'string' ? null : decodePlainPng(input);
  if (plain !== null) {
    const { width, height, channels } = plain;
    return { width, height, isGrey: channels === 1, hasAlpha: channels === 4 };
  }
  try {
    const image = await vips(input, { ...OPTIONS, limitInputPixels: false });
    const metadata = await image.metadata();
    return headerOf(metadata, await bandsOf(metadata, input));
  } catch (error) {
    throw asUnusable(error);
  }
}

/** What becomes of an image once it is decoded. */
export interface DecodeOptions {
  /** Keeps the transparency of images that have some, or the fourth band of a TIFF: 4 channels, colours as stored. */
  readonly alpha?: boolean | undefined;
  /** The size that it will be cropped and resized to: a JPEG far larger than that comes smaller, see {@link reduction}. */
  readonly size?: Size | undefined;
}

/** Decodes an image to 8-bit pixels [H, W, C], with 1 channel for grey images, else 3. @throws UnusableImage */
export async function decodeImage(bytes: Uint8Array, options: DecodeOptions = {}): Promise<RawImage> {
  const { alpha = false } = options;
  if (bytes.length === 0) throw new UnusableImage('empty file');
  const plain = decodePlainPng(bytes);
  if (plain !== null && (alpha || plain.channels < 4) && plain.width * plain.height <= MAX_PIXELS)
    return plain;
  try {
    return await decodeByVips(bytes, options, false);
  } catch (error) {
    if (error instanceof UnusableImage) throw error;
  }
  // libvips keeps its error messages in one place for all threads, where others overwrite them: only alone does a
  // file get its own.
  try {
    return await decodeByVips(bytes, options, true);
  } catch (error) {
    throw asUnusable(error);
  }
}

async function decodeByVips(
  bytes: Uint8Array,
  { alpha = false, size }: DecodeOptions,
  alone: boolean,
): Promise<RawImage> {
  const image = await vips(bytes, OPTIONS);
  const metadata = await image.metadata();
  const bands = await bandsOf(metadata, bytes);
  const { width, height, isGrey, hasAlpha, hasExtraBand } = headerOf(metadata, bands);
  const reduced = metadata.format === 'jpeg' && size ? reduction({ width, height }, size) : 1;
  const resized = { width: Math.ceil(width / reduced), height: Math.ceil(height / reduced) };
  const pixels = resized.width * resized.height;
  return pixelBudget.use(alone ? Number.MAX_SAFE_INTEGER : pixels, async () => {
    if (reduced > 1) image.resize({ ...resized, fit: 'fill', kernel: 'cubic' });
    const keepsAlpha = alpha && hasAlpha;
    if (hasAlpha && !alpha) image.flatten({ background: 'white' });
    // 16-bit grey goes by way of sRGB: libvips' direct way to 8-bit grey is off by one level here and there.
    const { data, info } = await image
      .toColourspace(metadata.space === 'b-w' && !keepsAlpha && !bands?.extra.length ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const decoded = { data, width: info.width, height: info.height, channels: info.channels };
    if (bands !== null && bands.extra.length > 0 && !hasAlpha) {
      // libvips has made three of a grey band; those beyond it are as stored.
      const first = bands.colours === 1 && bands.total > 2 ? 2 : 0;
      const count = isGrey ? 1 : alpha && bands.total === 4 ? 4 : 3;
      const kept = someChannels(decoded, first, count);
      return hasExtraBand ? { ...kept, extraBand: count === 4 ? 'kept' : 'dropped' } : kept;
    }
    return isGrey && !keepsAlpha ? someChannels(decoded, 0, 1) : decoded;
  });
}

/** So many times the wanted size remain for Lanczos … */
const REDUCED_RATIO = 4;
/** … of images that have at least so many. */
const LEAST_RATIO = 16;

/**
 * By how much a large JPEG is reduced while it is decoded: libjpeg makes an eighth of the size in half of the time. Resized
 * from there, pixels differ by a level or two here and there (by 0.1 to 0.4 in the mean; a test compares), and by some more
 * where grain is cut off at black, white or full colours.
 */
function reduction(image: Size, { width, height }: Size): number {
  const ratio = Math.min(image.width / width, image.height / height);
  return ratio < LEAST_RATIO ? 1 : Math.floor(ratio / REDUCED_RATIO);
}

/** `count` channels of an image from `first` on. */
function someChannels(image: RawImage, first: number, count: number): RawImage {
  const { data, width, height, channels } = image;
  if (first === 0 && channels === count) return image;
  const isKept = Array.from({ length: channels }, (_, c) => c >= first && c < first + count);
  return { data: data.filter((_, i) => isKept[i % channels]), width, height, channels: count };
}

/** The bands of a TIFF that has more than its colours; null for everything else. */
async function bandsOf(metadata: Metadata, input: string | Uint8Array): Promise<TiffBands | null> {
  if (metadata.channels > 5) throw tooManyBands(metadata.channels);
  if (metadata.format !== 'tiff' || !metadata.hasAlpha) return null;
  const bands = await tiffBands(input);
  if (bands === null) return null;
  const { total, colours, extra } = bands;
  if (total > Math.max(4, colours + 1)) throw tooManyBands(total);
  if (total !== colours + extra.length) {
    throw new UnusableImage(
      `${total} bands, of which its tags describe ${colours + extra.length}; save it again as RGB or RGBA`,
    );
  }
  if (extra.length > 1 && extra.some(isOpacity)) {
    throw new UnusableImage(`${total} bands, grey and opacity among them; save it again as RGB or RGBA`);
  }
  return bands;
}

const tooManyBands = (count: number) => new UnusableImage(`${count} bands; 1, 3 or 4 are read`);

const isOpacity = (meaning: number) => meaning === 1 || meaning === 2;

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

function headerOf(metadata: Metadata, bands: TiffBands | null): ImageHeader {
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
  const isGrey = (space === 'b-w' || space === 'grey16') && (bands === null || bands.total < 3);
  if (bands === null) return { width, height, isGrey, hasAlpha: metadata.hasAlpha };
  const hasAlpha = bands.extra.some(isOpacity);
  // Three bands without a photometric interpretation of their own are taken as colours.
  return { width, height, isGrey, hasAlpha, hasExtraBand: !hasAlpha && bands.total !== 3 };
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

/** A handful of 100-megapixel photos at once would take gigabytes. */
const pixelBudget = new Budget(MAX_PIXELS);
