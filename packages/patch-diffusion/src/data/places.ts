/**
 * Which image stands in each place of a set whose length is settled: its own or, where that cannot be used, the next one
 * that can.
 */
import { UnusableImage } from './decode.js';
import type { SkippedFile } from './types.js';
import { nothingUsable } from './unusable.js';

/** Reads an image, and raises {@link UnusableImage} where it cannot be used. */
type Use = (image: number) => Promise<void>;

export class Places {
  readonly #unusable = new Set<number>();
  readonly #keptInPlace = new Set<number>();
  readonly #onUnusable: ((image: number, error: UnusableImage) => void) | undefined;

  /** @param onUnusable told once of each; may throw to stop at it. Without it, the first one is an error */
  constructor(onUnusable: ((image: number, error: UnusableImage) => void) | undefined) {
    this.#onUnusable = onUnusable;
  }

  /**
   * Finds the image for a place.
   * @throws UserError when none of the `count` images can be used
   */
  async fill(
    place: number,
    count: number,
    use: Use,
    set: { readonly path: string; readonly report: { readonly skipped: readonly SkippedFile[] } },
  ): Promise<number> {
    for (let k = 0; k < count; k++) {
      const image = (place + k) % count;
      if (k > 0 && this.#keptInPlace.has(image)) continue;
      if (await this.canUse(image, use)) return image;
    }
    throw nothingUsable(set.path, set.report.skipped);
  }

  async canUse(image: number, use: Use): Promise<boolean> {
    if (this.#unusable.has(image)) return false;
    try {
      await use(image);
      return true;
    } catch (error) {
      if (!(error instanceof UnusableImage) || this.#onUnusable === undefined) throw error;
      // Another place may have come upon it meanwhile.
      if (this.#unusable.has(image)) return false;
      this.#onUnusable(image, error);
      this.#unusable.add(image);
      return false;
    }
  }

  /** From now on none of these images is used for another place. */
  keepInPlace(images: ArrayLike<number>): void {
    for (const image of Array.from(images)) this.#keptInPlace.add(image);
  }
}
