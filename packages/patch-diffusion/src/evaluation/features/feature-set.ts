/** Feature vectors of a set of images, kept in a file as they come: memory stays flat, and what is there is not computed again. */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import { chunks, type Pixels } from '../pixels.js';
import { RowFile } from '../row-file.js';
import type { Detector, FeatureRecord } from './detector.js';

export class FeatureSet {
  readonly #rows: RowFile;

  private constructor(
    rows: RowFile,
    readonly count: number,
    readonly dim: number,
  ) {
    this.#rows = rows;
  }

  /**
   * Computes what is missing of the features.
   * @param path of the file
   * @param batch images at a time
   */
  static async of(
    pixels: Pixels,
    detector: Detector,
    path: string,
    context: {
      readonly batch: number;
      readonly signal?: AbortSignal | undefined;
      readonly onProgress?: (done: number) => void;
    },
  ): Promise<FeatureSet> {
    const { dim } = detector.record;
    const { channels, height, width, count } = pixels;
    const rows = await RowFile.open(path, dim * Float32Array.BYTES_PER_ELEMENT);
    try {
      while (rows.count < count) {
        context.signal?.throwIfAborted();
        const length = Math.min(context.batch, count - rows.count);
        const indices = Array.from({ length }, (_, k) => rows.count + k);
        const bytes = await pixels.read(indices);
        const values = torch.scope(() => {
          const shape = [length, channels, height, width];
          const images = torch.tensor(bytes, { shape, dtype: 'uint8' });
          return detector.features(images).toTypedArray() as Float32Array;
        });
        if (!values.every(Number.isFinite)) {
          throw new UserError(
            'NAN_FEATURES',
            'the feature network gives NaN or infinite values; its weights are damaged: get them again',
          );
        }
        await rows.append(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
        context.onProgress?.(rows.count);
        await setImmediate();
      }
      return new FeatureSet(rows, count, dim);
    } catch (error) {
      await rows.close();
      throw error;
    }
  }

  /** @returns float64 [N, D] */
  async take(indices: ArrayLike<number>): Promise<Tensor> {
    const bytes = await this.#rows.read(indices);
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, indices.length * this.dim);
    return torch.scope(() =>
      torch.tensor(values, { shape: [indices.length, this.dim] }).to({ dtype: 'float64' }),
    );
  }

  /** Some vectors, a block at a time; the caller disposes each. */
  async *blocks(indices: ArrayLike<number>, size = 1024): AsyncGenerator<Tensor> {
    for (const block of chunks(indices.length, size)) {
      yield await this.take(block.map((k) => indices[k]));
      await setImmediate();
    }
  }

  close(): Promise<void> {
    return this.#rows.close();
  }
}

/** The features that an evaluation compares; each set is computed when it is first asked for. */
export interface Features {
  readonly record: FeatureRecord;
  samples(): Promise<FeatureSet>;
  /** All images that the loss is measured on, held out or not; null without data. */
  judged(): Promise<FeatureSet | null>;
  /** Training images: all where samples are compared with them, else 10,000 at most; null where they are not known. */
  training(): Promise<FeatureSet | null>;
  /** The images that samples are compared with; null without data. */
  real(): Promise<FeatureSet | null>;
  close(): Promise<void>;
}
