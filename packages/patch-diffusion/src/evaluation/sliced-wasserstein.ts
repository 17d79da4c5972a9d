/**
 * Sliced Wasserstein distance of two sets of images on the levels of a Laplacian pyramid (Karras et al. 2018, section 5):
 * 7 × 7 pieces of each level, normalised per channel, are projected on random directions; on each, the distance of two
 * samples of equal size is the mean difference of the sorted values. Needs no network.
 */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { keep } from '@patch-diffusion/torch';
import { type Figure, GROUPS, jackknife } from './figure.js';
import { chunks, type Pixels } from './pixels.js';

/** Side of a piece. */
const PIECE_PX = 7;
/** Pieces of an image at most, and of all images on one level. */
const PIECES_PER_IMAGE = 128;
const PIECES = 16_384;
const DIRECTIONS = 512;
/** Directions for the interval, which needs the distance once per group. */
const INTERVAL_DIRECTIONS = 64;
/** A level is halved while its smaller side is at least twice this. */
const SMALLEST_PX = 16;
const SEED = 20_230_425;

/** Pieces of the images of one set: float32 [images · pieces, C · 49] for each level, image after image. */
export class Descriptors {
  private constructor(
    /** From fine to coarse. */
    readonly levels: readonly Tensor[],
    readonly images: number,
    readonly channels: number,
  ) {}

  /** Takes the pieces out of the first `count` images; the caller disposes them. */
  static async of(
    pixels: Pixels,
    count: number,
    { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: (done: number) => void } = {},
  ): Promise<Descriptors> {
    const { channels, height, width } = pixels;
    const perImage = Math.max(1, Math.min(PIECES_PER_IMAGE, Math.floor(PIECES / count)));
    const depth = levelCount(height, width);
    const length = channels * PIECE_PX ** 2;
    const levels = Array.from({ length: depth }, () => keep(torch.zeros([count * perImage, length])));
    // Positions come in the order of the images.
    const generator = new torch.Generator('cpu', SEED);
    try {
      for (const indices of chunks(count)) {
        signal?.throwIfAborted();
        const bytes = await pixels.read(indices);
        torch.noGrad(() =>
          torch.scope(() => {
            const shape = [indices.length, channels, height, width];
            const images = torch.tensor(bytes, { shape, dtype: 'uint8' }).to({ dtype: 'float32' });
            for (const [k, level] of laplacianPyramid(images, depth).entries()) {
              const rows = pieces(level, perImage, generator);
              levels[k].narrow(0, indices[0] * perImage, rows.shape[0]).copy_(rows);
            }
          }),
        );
        onProgress?.(indices[0] + indices.length);
        await setImmediate();
      }
    } catch (error) {
      for (const level of levels) level.dispose();
      throw error;
    }
    for (const level of levels) normalise(level, channels);
    return new Descriptors(levels, count, channels);
  }

  dispose(): void {
    for (const level of this.levels) level.dispose();
  }
}

/** Levels of a pyramid; images smaller than 32 px have one. */
function levelCount(height: number, width: number): number {
  return 1 + Math.max(0, Math.floor(Math.log2(Math.min(height, width) / SMALLEST_PX)));
}

/**
 * The distance × 1000, mean over the levels, with its interval.
 * @param floor the distance of real images among each other
 */
export async function slicedWasserstein(
  a: Descriptors,
  b: Descriptors,
  floor: { readonly value: number; readonly n: number } | null = null,
): Promise<Figure> {
  const value = distance(a, b, DIRECTIONS, null);
  const without: number[] = [];
  const groups = Math.min(GROUPS, a.images);
  for (let group = 0; group < groups && groups > 1; group++) {
    await setImmediate();
    without.push(distance(a, b, INTERVAL_DIRECTIONS, group));
  }
  const interval = groups > 1 ? jackknife(value, without) : { low: 0, high: value };
  return {
    value,
    ...interval,
    n: a.images,
    floor: floor?.value ?? null,
    ...(floor && floor.n !== a.images ? { floorN: floor.n } : {}),
  };
}

/** The distance × 1000 alone. */
export function slicedDistance(a: Descriptors, b: Descriptors): number {
  return distance(a, b, DIRECTIONS, null);
}

/** @param leftOut group of images that is left out on both sides, or null */
function distance(a: Descriptors, b: Descriptors, directions: number, leftOut: number | null): number {
  if (a.images !== b.images || a.channels !== b.channels || a.levels.length !== b.levels.length)
    throw new RangeError('internal: sets of different numbers or sizes of images cannot be compared');
  const generator = new torch.Generator('cpu', SEED);
  const perLevel = a.levels.map((level, k) =>
    torch.noGrad(() =>
      torch.scope(() => {
        const random = torch.randn([level.shape[1], directions], { generator });
        const unit = random.div(random.square().sum([0], true).sqrt());
        const rows = leftOut === null ? null : rowsWithout(leftOut, a.images, level.shape[0]);
        const sorted = (t: Tensor) => {
          // One row per direction: sorting runs along memory.
          const projected = unit.t().matmul((rows ? t.indexSelect(0, rows) : t).t());
          return torch.sort(projected, 1)[0];
        };
        return sorted(level).sub(sorted(b.levels[k])).abs().mean().item();
      }),
    ),
  );
  return (1000 * perLevel.reduce((sum, d) => sum + d, 0)) / perLevel.length;
}

/** Rows of the images that are not in a group; image i is in group i mod GROUPS. */
function rowsWithout(group: number, images: number, rows: number): Tensor {
  const perImage = rows / images;
  const kept = Array.from({ length: rows }, (_, row) => row).filter(
    (row) => Math.floor(row / perImage) % Math.min(GROUPS, images) !== group,
  );
  return torch.tensor(kept, { dtype: 'int64' });
}

/** Differences of an image and its blurred self, level by level; the last level is what is left. */
export function laplacianPyramid(images: Tensor, depth: number): Tensor[] {
  const levels: Tensor[] = [];
  let current = images;
  for (let k = 1; k < depth; k++) {
    const smaller = blurred(current).slice(2, 0, null, 2).slice(3, 0, null, 2);
    levels.push(current.sub(enlarged(smaller, current.shape[2], current.shape[3])));
    current = smaller;
  }
  levels.push(current);
  return levels;
}

/** 5 × 5 binomial filter, mirrored at the border; each channel by itself. */
function blurred(images: Tensor, gain = 1): Tensor {
  const [N, C, H, W] = images.shape;
  const tap = torch.tensor([1, 4, 6, 4, 1]).div(16);
  const kernel = torch.outer(tap, tap).mul(gain).reshape([1, 1, 5, 5]);
  const padded = torch.reflectionPad2d(images.reshape([N * C, 1, H, W]), [2, 2, 2, 2]);
  return torch.conv2d(padded, kernel).reshape([N, C, H, W]);
}

/** Twice the size: zeros between the pixels, then the filter, whose gain makes up for them. */
function enlarged(images: Tensor, height: number, width: number): Tensor {
  const [N, C, h, w] = images.shape;
  const spread = torch.zeros([N, C, h, 2, w, 2]);
  spread.select(5, 0).select(3, 0).copy_(images);
  const twice = spread
    .reshape([N, C, 2 * h, 2 * w])
    .narrow(2, 0, height)
    .narrow(3, 0, width);
  return blurred(twice, 4);
}

/** Pieces at random places of each image, [N · count, C · 49]; the columns of a channel lie together. */
function pieces(level: Tensor, count: number, generator: torch.Generator): Tensor {
  const [N, C, H, W] = level.shape;
  const corner = (side: number) =>
    torch.randint(0, side - PIECE_PX + 1, [N, count, 1, 1], { generator, dtype: 'int64' });
  const along = torch.arange(PIECE_PX, { dtype: 'int64' });
  const rows = corner(H).add(along.reshape([1, 1, -1, 1]));
  const columns = corner(W).add(along.reshape([1, 1, 1, -1]));
  const flat = rows.mul(W).add(columns).reshape([N, 1, -1]).expand([N, C, -1]);
  return level
    .reshape([N, C, H * W])
    .gather(2, flat)
    .reshape([N, C, count, PIECE_PX ** 2])
    .transpose(1, 2)
    .reshape([N * count, C * PIECE_PX ** 2]);
}

/** Mean 0 and standard deviation 1 in each channel, in place. */
function normalise(rows: Tensor, channels: number): void {
  torch.noGrad(() =>
    torch.scope(() => {
      const view = rows.reshape([rows.shape[0], channels, -1]);
      const [variance, mean] = torch.varMean(view, [0, 2], { correction: 0, keepdim: true });
      // A flat channel (all white, say) stays at 0.
      view.sub_(mean).div_(variance.sqrt().clampMin(1e-6));
    }),
  );
}
