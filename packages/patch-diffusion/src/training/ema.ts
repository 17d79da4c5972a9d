/**
 * Exponential moving average of the weights with a half-life in images and a ramp-up (Karras et al. 2022, appendix F.2).
 */
import type { Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

export interface EmaOptions {
  /** Half-life, in thousands of images. */
  readonly emaHalflifeKimg: number;
  /** The half-life is at most this share of the images seen so far; null turns the ramp-up off. */
  readonly emaRampupRatio: number | null;
}

/**
 * The decay of one update.
 * @param nimg images seen before the update
 * @param batchImages images that the update counts as
 * @example
 * ```ts
 * const beta = emaBeta({ emaHalflifeKimg: 500, emaRampupRatio: 0.05 }, 100_000, 512);
 * ```
 */
export function emaBeta(
  { emaHalflifeKimg, emaRampupRatio }: EmaOptions,
  nimg: number,
  batchImages: number,
): number {
  const halflife = Math.min(
    emaHalflifeKimg * 1000,
    emaRampupRatio === null ? Number.POSITIVE_INFINITY : nimg * emaRampupRatio,
  );
  return 0.5 ** (batchImages / Math.max(halflife, 1e-8));
}

/**
 * average ← beta·average + (1 − beta)·source, for every parameter. Buffers are constants in these networks.
 * @example
 * ```ts
 * const [network, average] = [new Linear(4, 2), new Linear(4, 2)];
 * updateEma(average, network, 0.999);
 * ```
 */
export function updateEma(average: Module, source: Module, beta: number): void {
  torch.moveAverages({ averages: average.parameters(), beta }, source.parameters());
}

/**
 * Copies all parameters and buffers.
 * @example
 * ```ts
 * const [network, average] = [new Linear(4, 2), new Linear(4, 2)];
 * copyWeights(average, network);
 * ```
 */
export function copyWeights(target: Module, source: Module): void {
  target.loadStateDict(source.stateDict() as ReadonlyMap<string, Tensor>);
}
