/** What a folder, a zip and an idx file of images have in common. */
import type { DecodeOptions, ImageHeader } from './decode.js';
import type { RawImage } from './resize.js';
import type { SkippedFile } from './types.js';

/** A file of a folder. */
export interface FilePlace {
  readonly file: string;
  readonly bytes: number;
}

/** An entry of a zip, as its directory describes it. */
export interface ZipPlace {
  readonly compressedSize: number;
  readonly compressionMethod: number;
  readonly crc32: number;
  readonly fileNameLength: number;
  readonly relativeOffsetOfLocalHeader: number;
  readonly uncompressedSize: number;
  readonly isEncrypted: boolean;
}

/** Where an image lies in its source: plain data, which other threads can be given (see image-places.ts). */
export type ImagePlace = FilePlace | ZipPlace;

/** A list of image files that can be read one by one, in any order and side by side. */
export interface ImageSource {
  readonly kind: 'folder' | 'zip' | 'idx';
  readonly path: string;
  /** Names of the images, relative, with forward slashes, in Python's string order. */
  readonly names: readonly string[];
  /** Files that look like images but are of a format that is not read, or could not be looked at. */
  readonly skipped: readonly SkippedFile[];
  /** Size of the source in bytes: the archive, or all its image files. */
  readonly bytes: number;
  /** Contents of `dataset.json` in the root, or null when there is none. */
  readonly datasetJson: string | null;
  /** Class of each image where the format has its own labels (idx), else null. */
  readonly classes: ArrayLike<number> | null;
  /** Size of an image without decoding it. @throws UnusableImage */
  header(index: number): Promise<ImageHeader>;
  /**
   * Pixels [H, W, C] of an image, C = 1 for grey ones, else 3, with transparency laid over white, or 4 where it is kept.
   *
   * @throws UnusableImage
   */
  decode(index: number, options?: DecodeOptions): Promise<RawImage>;
  /** Where an image lies; absent where all are in memory. */
  place?(index: number): ImagePlace;
  /** Differs when any of its files has changed, by name, size and times; absent where all are in memory. */
  stamp?(): string;
  close(): Promise<void>;
}
