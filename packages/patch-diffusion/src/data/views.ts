/**
 * A part of a {@link DataSet} as a set of its own, for example the images held out of training. It shares the
 * items with the whole set.
 */
import { UserError } from '../common/errors.js';
import type { Label } from '../diffusion/labels.js';
import type { Crop } from '../patches/patch-source.js';
import { others, shuffled } from './subset.js';
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

  nameOf(index: number): string {
    return this.#whole.nameOf(this.#map([index])[0]);
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
 * Splits off `count` images, chosen by `seed`, that training never sees, mirrored or not. Only images that can be used
 * are held out, and none of them takes the place of a damaged one. Call it before the set is first read.
 *
 * @throws RangeError unless at least one image is left on either side
 * @throws UserError when fewer than `count` images can be used
 * @example
 * ```ts
 * const photos = await openImages('photos.zip');
 * const { heldOut } = await holdOut(photos, 2, 1);
 * console.log(heldOut.length);
 * await photos.close();
 * ```
 */
export async function holdOut(
  set: DataSet,
  count: number,
  seed: number,
): Promise<{ train: Subset; heldOut: Subset }> {
  if (!Number.isInteger(count) || count < 1 || count >= set.baseLength) {
    throw new RangeError(`Cannot hold out ${count} of ${set.baseLength} images`);
  }
  const order = shuffled(set.baseLength, seed);
  const chosen: number[] = [];
  for (let at = 0; chosen.length < count; ) {
    const next = order.subarray(at, at + count - chosen.length);
    if (next.length === 0) throw tooFewToHoldOut(set, count, chosen.length);
    at += next.length;
    const usable = await set.usable?.(next);
    chosen.push(...next.filter((_, i) => usable?.[i] ?? true));
  }
  const heldOut = Int32Array.from(chosen).sort();
  set.keepInPlace?.(heldOut);
  const train = others(set.baseLength, heldOut);
  return { train: new Subset(set, train, true), heldOut: new Subset(set, heldOut, false) };
}

function tooFewToHoldOut({ path }: DataSet, count: number, usable: number): UserError {
  return new UserError(
    'HOLDOUT_TOO_LARGE',
    `--holdout ${count}: only ${usable} of the images in ${path} can be used; choose a smaller one, or prepare the data again`,
    { exitCode: 2 },
  );
}
