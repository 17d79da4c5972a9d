/**
 * What a run trains on: its images as its options resolve them, and patches that its schedule would cut of them now. Images
 * are decoded one by one, when a page shows them.
 */
import { stat } from 'node:fs/promises';
import { UserError } from '../common/errors.js';
import { Mt19937 } from '../common/mt19937.js';
import { resolveTrainOptions } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { isLatentPath, sortSkipped } from '../data/names.js';
import { encodePng } from '../data/png.js';
import { ImagePreview } from '../data/preview.js';
import { InfiniteSampler } from '../data/sampler.js';
import { others, shuffled } from '../data/subset.js';
import { offsetCounts } from '../patches/offsets.js';
import { type PatchSchedule, planUpdate, sizesAt } from '../patches/schedule.js';
import { located } from '../run/located.js';
import type { RunJson } from '../run/runs.js';
import { imageOptions } from '../training/data-options.js';
import { patchSchedule, patchSizes } from '../training/model.js';
import type { DrawnPatch, RunDataView } from './api.js';

/** Patches on a page. */
const SHOWN = 24;
/** Files that are named. */
const SKIPPED_SHOWN = 100;

/** The opened data of a run. */
export class RunData {
  readonly #options: TrainOptions;
  readonly #images: ImagePreview;
  /** Images that are trained on, of all that are used. */
  readonly #trained: Int32Array;
  readonly #schedule: PatchSchedule;

  private constructor(options: TrainOptions, images: ImagePreview) {
    this.#options = options;
    this.#images = images;
    const { holdout, seed } = options;
    this.#trained = others(images.length, shuffled(images.length, seed).subarray(0, holdout));
    this.#schedule = patchSchedule(options, patchSizes(options, { ...extentOf(images), latents: null }));
  }

  /** @throws {UserError} where the data is not there any more, or cannot be shown */
  static async open(json: RunJson): Promise<RunData> {
    const options = resolveTrainOptions({ base: { name: 'run.json', values: located(json) } });
    const { data } = options;
    if (isLatentPath(data))
      throw new UserError(
        'LATENTS',
        `the run trains on latents (${data}), which are no images; its sheets show what they decode to`,
      );
    if ((await stat(data).catch(() => null)) === null)
      throw new UserError(
        'DATA_NOT_FOUND',
        `the images of the run, ${data}, are not there any more, or not from this folder; put them back to see them here`,
      );
    return new RunData(options, await ImagePreview.open(data, imageOptions(options)));
  }

  /** @param progress share of the training that is done @param seed of the images and patches that are shown */
  view(progress: number, seed: number): RunDataView {
    const images = this.#images;
    const { classNames, skipped } = images;
    const classes = images
      .classCounts()
      ?.map((count, index) => ({ name: classNames?.[index] ?? String(index), count }));
    return {
      path: images.path,
      images: this.#trained.length,
      heldOut: images.length - this.#trained.length,
      hasMirrored: this.#options.xflip,
      ...extentOf(images),
      channels: images.channels,
      sizes: images.sizes(),
      classes: classes ?? null,
      skipped: sortSkipped([...skipped]).slice(0, SKIPPED_SHOWN),
      skippedCount: skipped.length,
      schedule: this.#schedule.name,
      ...{ progress, seed },
      patchSizes: sizesAt(this.#schedule, progress).map(({ width, height, probability }) => ({
        ...{ width, height, probability },
      })),
      patches: this.#patches(progress, seed),
    };
  }

  /** Patches of updates of one image at full size, by the rules of the training and with a seed of their own. */
  #patches(progress: number, seed: number): DrawnPatch[] {
    const random = new Mt19937(seed);
    const count = this.#trained.length;
    const order = new InfiniteSampler({ length: this.#options.xflip ? 2 * count : count, seed });
    const patches: DrawnPatch[] = [];
    while (patches.length < SHOWN) {
      const { microBatches } = planUpdate(this.#schedule, { batch: 1, batchGpu: 1 }, progress, () =>
        random.randomDouble(),
      );
      for (const { patch, count } of microBatches) {
        const { rows, cols } = offsetCounts(patch, this.#images);
        for (const item of order.next(count)) {
          const place = { row: random.randint(0, rows), col: random.randint(0, cols) };
          patches.push({ ...this.#about(item), ...place, width: patch.width, height: patch.height });
        }
      }
    }
    return patches.slice(0, SHOWN);
  }

  #about(item: number) {
    const isMirrored = item >= this.#trained.length;
    const image = this.#trained[isMirrored ? item - this.#trained.length : item];
    const label = this.#images.labelOf(image);
    const name = typeof label === 'number' ? (this.#images.classNames?.[label] ?? String(label)) : null;
    return { image, isMirrored, label: name, name: this.#images.nameOf(image) };
  }

  /** An image as the run trains on it, as PNG; null where there is none of this number. @throws UnusableImage */
  async png(image: number): Promise<Buffer | null> {
    if (!(Number.isInteger(image) && image >= 0 && image < this.#images.length)) return null;
    return encodePng(await this.#images.pixels(image));
  }

  close(): Promise<void> {
    return this.#images.close();
  }
}

const extentOf = ({ width, height }: ImagePreview) => ({ width, height });
