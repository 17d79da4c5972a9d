/** Looking at single images of a source as a run trains on them, without decoding the others. */
import type { Label } from '../diffusion/labels.js';
import type { ImageHeader } from './decode.js';
import type { ImageSource } from './image-source.js';
import {
  type ImagePlan,
  isUniform,
  loadImage,
  type OpenImagesOptions,
  planAny,
  planUniform,
} from './plan-images.js';
import type { RawImage } from './resize.js';
import { openSource } from './source.js';
import type { ImageChannels, SkippedFile } from './types.js';

/** The images of a run, each decoded when it is asked for. */
export class ImagePreview {
  readonly path: string;
  /** Whether all images have the size of the first. */
  readonly isPrepared: boolean;
  readonly width: number;
  readonly height: number;
  readonly channels: ImageChannels;
  /** Number of images, without mirrored copies. */
  readonly length: number;
  /** Classes, or the length of a label; 0 without labels. */
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  /** Files that are not used, as far as their headers tell. */
  readonly skipped: readonly SkippedFile[];
  readonly #source: ImageSource;
  readonly #plan: ImagePlan;

  private constructor(source: ImageSource, plan: ImagePlan) {
    const { size, channels, entries, labels, skipped, alike } = plan;
    this.path = source.path;
    this.isPrepared = alike !== null;
    this.width = size.width;
    this.height = size.height;
    this.channels = channels;
    this.length = entries.length;
    this.labelDim = labels?.dim ?? 0;
    this.classNames = labels?.classNames ?? null;
    this.skipped = skipped;
    this.#source = source;
    this.#plan = plan;
  }

  /** @throws UserError as {@link openImages} does */
  static async open(path: string, options: OpenImagesOptions): Promise<ImagePreview> {
    const source = await openSource(path);
    try {
      const plan = isUniform(source) ? await planUniform(source, options) : await planAny(source, options);
      return new ImagePreview(source, plan);
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  /** Sizes of the files as they are, the most frequent first. */
  sizes(): { width: number; height: number; count: number }[] {
    const { headers, entries, alike } = this.#plan;
    if (alike) return [{ width: alike.size.width, height: alike.size.height, count: this.length }];
    const counts = new Map<string, { width: number; height: number; count: number }>();
    for (const entry of entries) {
      const { width, height } = headers.get(entry) as ImageHeader;
      const size = counts.get(`${width}x${height}`) ?? { width, height, count: 0 };
      size.count++;
      counts.set(`${width}x${height}`, size);
    }
    return [...counts.values()].sort((a, b) => b.count - a.count);
  }

  /** Images of each class; null where there are none, or labels are vectors. */
  classCounts(): number[] | null {
    const { labels, entries } = this.#plan;
    if (labels === null || typeof labels.values[0] !== 'number') return null;
    const counts = new Array<number>(labels.dim).fill(0);
    for (const entry of entries) counts[labels.values[entry] as number]++;
    return counts;
  }

  nameOf(image: number): string {
    return this.#source.names[this.#plan.entries[image]];
  }

  labelOf(image: number): Label | null {
    return this.#plan.labels?.values[this.#plan.entries[image]] ?? null;
  }

  /** Pixels as the run trains on them. @throws UnusableImage */
  pixels(image: number): Promise<RawImage> {
    return loadImage(this.#source, this.#plan, this.#plan.entries[image]);
  }

  close(): Promise<void> {
    return this.#source.close();
  }
}
