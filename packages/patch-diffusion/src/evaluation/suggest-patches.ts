/** Which patch sizes suit a set of images: how much context each noise level needs, told by the local denoiser. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { ImageSet } from '../data/types.js';
import { EDM_NOISE } from '../diffusion/noise-levels.js';
import { pixelsToFloat } from '../patches/batches.js';
import { LocalDenoiser } from './local-denoiser.js';

/** Noise levels that are tried: those that EDM trains on most. */
const SIGMAS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2] as const;
/** Images that are denoised, and those that the denoiser knows at most. */
const PROBES = 8;
const KNOWN = 1000;
/** A window is enough where its loss is at most this much above the best one's. */
const ENOUGH = 1.05;

/** What one noise level needs. */
export interface LevelNeed {
  readonly sigma: number;
  /** Mean squared error of the local denoiser with each window, in units of the data's range of −1 to 1. */
  readonly losses: readonly number[];
  /** The smallest window that is enough. */
  readonly windowPx: number;
  /** The smallest patch that holds such windows. */
  readonly patchPx: number;
  /** Share of EDM's noise levels that it stands for. */
  readonly share: number;
}

export interface PatchSuggestion {
  /** Windows around a pixel, odd; the last one holds the whole image. */
  readonly windowsPx: readonly number[];
  readonly levels: readonly LevelNeed[];
  /** Sides with their shares, as `--patch-sizes` takes them. */
  readonly sizes: readonly { readonly sidePx: number; readonly probability: number }[];
}

/**
 * Proposes patch sizes: for each noise level the smallest of a quarter, half and whole of the image in which a pixel finds
 * all the context that helps; their shares are those of EDM's noise levels.
 * @param set square images
 * @param onProgress told how many of how many noisy images are done
 * @throws UserError for a set of fewer than 50 images
 */
export async function suggestPatches(
  set: ImageSet,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<PatchSuggestion> {
  if (set.baseLength < 50)
    throw new UserError(
      'TOO_FEW_IMAGES',
      `${set.path} has ${set.baseLength} images; patch sizes are proposed for 50 and more`,
    );
  const windowsPx = windowsOf(set.width);
  const known = await floats(
    set,
    evenly(set.baseLength - PROBES, KNOWN).map((i) => i + PROBES),
  );
  const probes = await floats(set, evenly(PROBES, PROBES));
  try {
    const losses = await measure(new LocalDenoiser(known), probes, windowsPx, onProgress);
    const levels = needs(losses, windowsPx, set.width);
    return { windowsPx, levels, sizes: shares(levels, set.width) };
  } finally {
    known.dispose();
    probes.dispose();
  }
}

/** 3, 5, 9, … and the whole image from any of its pixels. */
function windowsOf(side: number): number[] {
  const windows = [3];
  while (2 * windows.at(-1)! - 1 <= side / 2 + 1) windows.push(2 * windows.at(-1)! - 1);
  return [...windows, 2 * side - 1];
}

/** Mean squared errors, [level][window]. */
async function measure(
  denoiser: LocalDenoiser,
  probes: Tensor,
  windows: readonly number[],
  onProgress: (done: number, total: number) => void,
): Promise<number[][]> {
  const generator = new torch.Generator('cpu', 1);
  const [count] = probes.shape;
  const sums = SIGMAS.map(() => windows.map(() => 0));
  for (let n = 0; n < count; n++) {
    for (const [level, sigma] of SIGMAS.entries()) {
      torch.scope(() => {
        const y = probes.select(0, n); // [C, H, W]
        const x = y.add(torch.randn(y.shape, { generator }), { alpha: sigma });
        const estimates = denoiser.estimate(x, sigma, windows);
        estimates.forEach((D, window) => {
          sums[level][window] += D.sub(y).square().mean().item() / count;
        });
      });
      onProgress(n * SIGMAS.length + level + 1, count * SIGMAS.length);
      await new Promise(setImmediate);
    }
  }
  return sums;
}

function needs(losses: readonly number[][], windows: readonly number[], side: number): LevelNeed[] {
  const density = SIGMAS.map((sigma) =>
    Math.exp(-0.5 * ((Math.log(sigma) - EDM_NOISE.pMean) / EDM_NOISE.pStd) ** 2),
  );
  const total = density.reduce((sum, value) => sum + value, 0);
  return SIGMAS.map((sigma, level) => {
    const limit = ENOUGH * Math.min(...losses[level]);
    const windowPx = windows[losses[level].findIndex((loss) => loss <= limit)];
    // In a patch of twice the window, a pixel's window is whole half of the way to the edge.
    const patchPx = sidesOf(side).find((patch) => patch >= 2 * (windowPx - 1)) ?? side;
    return { sigma, losses: losses[level], windowPx, patchPx, share: density[level] / total };
  });
}

/** Each patch size with the share of the levels that need it; whole images always take part, since samples are whole. */
function shares(levels: readonly LevelNeed[], side: number): PatchSuggestion['sizes'] {
  const LEAST_WHOLE = 0.1;
  const needed = (sidePx: number) =>
    levels.filter(({ patchPx }) => patchPx === sidePx).reduce((sum, { share }) => sum + share, 0);
  const whole = Math.max(needed(side), LEAST_WHOLE);
  const smaller = 1 - needed(side);
  return sidesOf(side).flatMap((sidePx) => {
    const probability = sidePx === side ? whole : (needed(sidePx) / smaller) * (1 - whole);
    return probability > 0 ? [{ sidePx, probability: Math.round(probability * 100) / 100 }] : [];
  });
}

/** A quarter, half and whole, in multiples of 4. */
const sidesOf = (side: number): number[] => [
  ...new Set([4, 2, 1].map((divisor) => Math.ceil(side / divisor / 4) * 4)),
];

/** At most `count` of the numbers below `total`, evenly spaced. */
function evenly(total: number, count: number): number[] {
  const n = Math.min(total, count);
  return Array.from({ length: n }, (_, i) => Math.floor((i * total) / n));
}

/** Whole images in [−1, 1], [N, C, H, W]; the caller disposes them. */
async function floats(set: ImageSet, indices: readonly number[]): Promise<Tensor> {
  const { channels, height, width } = set;
  await set.ready(indices);
  const corner = new Int32Array(indices.length);
  const pixels = set.gather([...indices], { size: { height, width }, rows: corner, cols: corner });
  return pixelsToFloat(pixels, [indices.length, channels, height, width]);
}
