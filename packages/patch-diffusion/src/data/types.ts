/**
 * What a set of training images looks like to the rest of the program.
 */

/** A file that was not used, and why. */
export interface SkippedFile {
  /** Name relative to the folder or archive. */
  file: string;
  /** A short phrase such as `empty file`. */
  reason: string;
}

/** What became of the files of a source. */
export interface ImageReport {
  /** Images in use (mirrored copies are not counted). */
  used: number;
  skipped: SkippedFile[];
}

/** Where to cut each image of a batch. Positions are counted in the image as it is delivered (after mirroring). */
export interface Crop {
  /** Side of a square crop, or its height and width, in pixels. */
  size: number | { height: number; width: number };
  /** Top row of each crop. */
  rows: ArrayLike<number>;
  /** Left column of each crop. */
  cols: ArrayLike<number>;
}

/** Images of one size, 8 bits per channel, with optional class labels. */
export interface ImageSet {
  /** Base name of the path without extension. */
  readonly name: string;
  readonly path: string;
  /** Number of items, mirrored copies included. */
  readonly length: number;
  /** Number of images without mirrored copies; item `k ≥ baseLength` is the mirror of `k − baseLength`. */
  readonly baseLength: number;
  /** 1 (grey) or 3 (RGB). */
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** Number of classes or length of the label vectors; 0 without labels. */
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  readonly report: ImageReport;
  /** Resolves when these items are in memory. Start it one batch ahead to hide the decoding. */
  ready(indices: ArrayLike<number>): Promise<void>;
  /**
   * Copies a crop of each item; only the crop's pixels are touched. The items must be {@link ready}.
   *
   * @param out filled and returned if given; its length must be N · C · P · P
   * @returns uint8 [N, C, P, P]
   */
  gather(indices: ArrayLike<number>, crop: Crop, out?: Uint8Array): Uint8Array;
  /** Labels of the items, one-hot for classes: float32 [N, labelDim]. */
  labels(indices: ArrayLike<number>): Float32Array;
  /** Stops the decoding and closes the file. Images in memory stay usable. */
  close(): Promise<void>;
}

/** Called with images done, images in all, and what is being done to them. */
export type Progress = (done: number, total: number, phase: 'scan' | 'decode' | 'write') => void;

/** Which labels to use: those that are there, those that must be there, or none. */
export type LabelMode = 'auto' | boolean;

/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}
