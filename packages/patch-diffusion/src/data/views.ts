/**
 * A part of a {@link DataSet} as a set of its own, for example the images held out of training. It shares the
 * items with the whole set.
 */
import type { Label } from '../diffusion/labels.js';
import type { Crop } from '../patches/batches.js';
import { splitHoldout } from './subset.js';
import type { DataSet, ImageReport, LatentInfo } from './types.js';

/** Some items of another set, with their mirrored copies if `xflip` and the other set has them. */
export class Subset implements DataSet {
  readonly name: string;
  readonly path: string;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly labelDim: number;
  readonly classNames: readonly string[] | null;
  readonly baseLength: number;
  readonly length: number;
  readonly report: ImageReport;
  readonly latents: LatentInfo | null;
  readonly std: number | null;

  readonly #whole: DataSet;
  readonly #images: Int32Array;

  /** @param images indices in [0, whole.baseLength) */
  constructor(whole: DataSet, images: Int32Array, xflip: boolean) {
    this.#whole = whole;
    this.#images = images;
    this.name = whole.name;
    this.path = whole.path;
    this.channels = whole.channels;
    this.height = whole.height;
    this.width = whole.width;
    this.labelDim = whole.labelDim;
    this.classNames = whole.classNames;
    this.baseLength = images.length;
    this.length = images.length * (xflip && whole.length > whole.baseLength ? 2 : 1);
    this.latents = whole.latents;
    this.std = whole.std;
    this.report = { used: images.length, skipped: whole.report.skipped };
  }

  ready(indices: ArrayLike<number>): Promise<void> {
    return this.#whole.ready(this.#map(indices));
  }

  gather(indices: ArrayLike<number>, crop: Crop): Uint8Array | Float32Array {
    return this.#whole.gather(this.#map(indices), crop);
  }

  labels(indices: ArrayLike<number>): Float32Array {
    return this.#whole.labels(this.#map(indices));
  }

  labelOf(index: number): Label | null {
    return this.#whole.labelOf(this.#map([index])[0]);
  }

  /** Closes the whole set. */
  close(): Promise<void> {
    return this.#whole.close();
  }

  #map(indices: ArrayLike<number>): Int32Array {
    const { baseLength, length } = this;
    const [images, whole] = [this.#images, this.#whole];
    return Int32Array.from(indices, (index) => {
      if (!(index >= 0 && index < length))
        throw new RangeError(`internal: image ${index} of ${length} does not exist`);
      return index < baseLength ? images[index] : whole.baseLength + images[index - baseLength];
    });
  }
}

/**
 * Splits off `count` images, chosen by `seed`, that training never sees, mirrored or not.
 *
 * @throws RangeError unless at least one image is left on either side
 */
export function holdOut(set: DataSet, count: number, seed: number): { train: Subset; heldOut: Subset } {
  if (!Number.isInteger(count) || count < 1 || count >= set.baseLength) {
    throw new RangeError(`Cannot hold out ${count} of ${set.baseLength} images`);
  }
  const { train, heldOut } = splitHoldout(set.baseLength, count, seed);
  return { train: new Subset(set, train, true), heldOut: new Subset(set, heldOut, false) };
}
