/** Images as metrics read them: whole, 8 bits per channel, a few at a time, from wherever they are. */
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from '../data/concurrency.js';
import { UnusableImage } from '../data/decode.js';
import { checkOneSize, scanHeaders } from '../data/plan-images.js';
import { openSource } from '../data/source.js';
import { chooseSubset } from '../data/subset.js';
import { toChannels } from '../data/transform.js';
import type { DataSet, ImageChannels, Progress, SkippedFile } from '../data/types.js';
import { nothingUsable } from '../data/unusable.js';
import { type LatentDecoder, toPixels } from '../latents/latents.js';

/** Images of one size. */
export interface Pixels {
  readonly count: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** @returns uint8 [N, C, H, W] */
  read(indices: readonly number[]): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Images that are read at a time; metrics do not depend on it. */
const CHUNK = 64;

/** Indices `0 … count − 1` in chunks. */
export function* chunks(count: number, size = CHUNK): Generator<number[]> {
  for (let start = 0; start < count; start += size)
    yield Array.from({ length: Math.min(size, count - start) }, (_, i) => start + i);
}

/**
 * The images of a data set without their mirrored copies; latents are decoded from their means.
 * @param decoder for latents; stays the caller's, as does the set
 */
export function dataPixels(set: DataSet, decoder: LatentDecoder | null): Pixels {
  const { height, width } = set;
  const factor = set.latents?.downFactor ?? 1;
  const gather = async (indices: readonly number[]) => {
    await set.ready(indices);
    const zeros = new Int32Array(indices.length);
    return set.gather(indices, { size: { height, width }, rows: zeros, cols: zeros });
  };
  const decode = async (indices: readonly number[]) => {
    const moments = (await gather(indices)) as Float32Array;
    const { scale, shift } = set.latents!;
    const shape = [indices.length, set.channels, height, width];
    const means = torch.scope(() => {
      const codes = torch.tensor(moments.subarray(0, moments.length / 2), { shape });
      return codes.sub(shift).mul(scale);
    });
    return (await toPixels(means, decoder)).pixels;
  };
  return {
    count: set.baseLength,
    channels: set.latents ? 3 : set.channels,
    ...{ height: height * factor, width: width * factor },
    read: set.latents ? decode : async (indices) => (await gather(indices)) as Uint8Array,
    close: async () => {},
  };
}

/** Some of the images of another source. */
export function somePixels(pixels: Pixels, indices: ArrayLike<number>): Pixels {
  const { channels, height, width } = pixels;
  return {
    ...{ count: indices.length, channels, height, width },
    read: (chosen) => pixels.read(chosen.map((index) => indices[index])),
    close: () => pixels.close(),
  };
}

/**
 * Images of a folder, zip or idx file, decoded anew whenever they are read, so that any number of them will do.
 * @throws UserError where there are none, or they are of several sizes
 */
export async function openPixels(
  path: string,
  options: {
    readonly maxImages: number;
    readonly onProgress?: Progress;
    readonly onSkip?: (skipped: readonly SkippedFile[]) => void;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Pixels> {
  const source = await openSource(path);
  try {
    const skipped: SkippedFile[] = [...source.skipped];
    const headers = await scanHeaders(
      source,
      [...source.names.keys()],
      (file, error) => {
        if (!(error instanceof UnusableImage)) throw error;
        skipped.push({ file, reason: error.message });
      },
      options,
    );
    const usable = [...headers.keys()].sort((a, b) => a - b);
    if (usable.length === 0) throw nothingUsable(path, skipped);
    checkOneSize(source, usable, headers);
    if (skipped.length > 0) options.onSkip?.(skipped);
    const chosen = chooseSubset(usable.length, options.maxImages, 0);
    const { height, width } = headers.get(usable[0])!;
    const channels: ImageChannels = usable.every((entry) => headers.get(entry)!.isGrey) ? 1 : 3;
    return {
      ...{ count: chosen.length, channels, height, width },
      read: async (indices) => {
        const bytes = channels * height * width;
        const out = new Uint8Array(indices.length * bytes);
        await forEachConcurrently(indices, DECODE_CONCURRENCY, async (index, k) => {
          const entry = usable[chosen[index]];
          const image = await source.decode(entry).catch((error: unknown) => {
            if (!(error instanceof UnusableImage)) throw error;
            throw new UserError(
              'DATA_DAMAGED',
              `${source.names[entry]} in ${path} cannot be decoded (${error.message}); remove it or make it again`,
            );
          });
          const { data } = toChannels(image, channels);
          for (let c = 0; c < channels; c++) {
            for (let from = c, to = k * bytes + c * height * width; from < data.length; from += channels)
              out[to++] = data[from];
          }
        });
        return out;
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}
