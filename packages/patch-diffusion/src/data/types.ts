/**
 * What a set of training images looks like to the rest of the program.
 */
import type { Label } from '../diffusion/labels.js';
import type { Crop, PatchSource } from '../patches/patch-source.js';

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
  /** How many were skipped, where `skipped` does not list all. */
  skippedCount?: number;
  /** Images without a band of their file that is neither colour nor opacity. */
  droppedBands?: number;
  /** Classes, or length of the label vectors, of labels that are there and were not asked for. */
  unusedLabels?: number;
}

/** How latents were made, and how they become images again. Plain JSON, embedded in snapshots. */
export interface LatentInfo {
  /** Folder of the autoencoder, and the SHA-256 of its weights file. */
  readonly autoencoder: { readonly path: string; readonly sha256: string };
  /** latent = (code − shift) · scale. */
  readonly scale: number;
  readonly shift: number;
  /** Image side / latent side. */
  readonly downFactor: number;
}

/**
 * What a network is trained on: images or latents of one size, with optional class labels. Sides and crops of latents
 * are counted in latent pixels.
 */
export interface DataSet extends PatchSource {
  /** Base name of the path without extension. */
  readonly name: string;
  readonly path: string;
  /** Number of items, mirrored copies included. */
  readonly length: number;
  /** Number of images without mirrored copies; item `k ≥ baseLength` is the mirror of `k − baseLength`. */
  readonly baseLength: number;
  /** 1 (grey), 3 (RGB), 4 (RGB and alpha), or those of the latents. */
  readonly channels: number;
  readonly classNames: readonly string[] | null;
  readonly report: ImageReport;
  /** Null for images. */
  readonly latents: LatentInfo | null;
  /** Standard deviation of the scaled latents over all elements; null where it was not measured. */
  readonly std: number | null;
  /** Resolves when these items can be gathered at once. Start it one batch ahead to hide the reading. */
  ready(indices: ArrayLike<number>): Promise<void>;
  /**
   * Reads images and tells which can be used; a set without it has no others. Images are numbered without their mirrored
   * copies.
   */
  usable?(images: ArrayLike<number>): Promise<boolean[]>;
  /** From now on none of these images takes the place of another that cannot be used. */
  keepInPlace?(images: ArrayLike<number>): void;
  /** What a person may find an item by: the name of its file. */
  nameOf(index: number): string;
  /** The label of an item; null without labels. */
  labelOf(index: number): Label | null;
  /** Stops what is under way and closes the file. */
  close(): Promise<void>;
}

/** Images, 8 bits per channel. After {@link close}, those in memory stay usable. */
export interface ImageSet extends DataSet {
  readonly latents: null;
  /**
   * Copies a crop of each image; only the crop's pixels are touched. The images must be {@link ready}.
   *
   * @param out filled and returned if given; its length must be N · C · P · P
   * @returns uint8 [N, C, P, P]
   */
  gather(indices: ArrayLike<number>, crop: Crop, out?: Uint8Array): Uint8Array;
}

/** Called with images done, images in all, and what is being done to them. */
export type Progress = (done: number, total: number, phase: 'scan' | 'decode' | 'write' | 'encode') => void;

/** Which labels to use: those that are there, those that must be there, or none. */
export type LabelMode = 'auto' | boolean;

/** Channels of images: 1 grey, 3 RGB, 4 RGB and alpha (opacity, not multiplied into the colours). */
export type ImageChannels = 1 | 3 | 4;

/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** How `prepare` fits images of other proportions. */
export const TRANSFORMS = ['center-crop', 'center-crop-wide', 'stretch', 'none'] as const;
export type Transform = (typeof TRANSFORMS)[number];
