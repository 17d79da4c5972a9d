/**
 * Weights with which all noise levels and patch sizes contribute alike to the loss. EDM2 (Karras et al. 2024, section 2.2) trains a
 * small network u(σ) beside the denoiser on ℓ · exp(−u) + u, whose best value is u = ln E[ℓ | σ]; so its effect is to divide the
 * loss by its mean at that level. Here that mean is known without a network: from the running means of the losses, for
 * each patch size. Unlike there, the weights are scaled so that the loss as a whole stays as large as EDM's: the
 * gradient does not jump when they begin to act.
 */
import { DEFAULT_SIGMA_DATA } from '../diffusion/noise-levels.js';
import { type Extent, extentName } from '../patches/extent.js';
import type { PatchSize } from '../patches/schedule.js';
import { binLevel, LEVEL_BINS, meanLosses, type NoiseHistogram } from './noise-histogram.js';

export class EvenWeights {
  /** EDM's weight by bin. */
  readonly #edm: Float64Array;

  constructor(
    readonly histogram: NoiseHistogram,
    sigmaData: number = DEFAULT_SIGMA_DATA,
  ) {
    this.#edm = Float64Array.from({ length: LEVEL_BINS.count }, (_, b) => {
      const variance = Math.exp(2 * binLevel(b));
      return (variance + sigmaData ** 2) / (variance * sigmaData ** 2);
    });
  }

  /**
   * Factors on EDM's loss in the next update.
   * @param sizes of the update, with their shares
   * @returns factors by bin for a size, or null before enough of its patches were seen: its loss stays as it is
   */
  at(sizes: readonly PatchSize[]): (patch: Extent) => Float32Array | null {
    const known = sizes.flatMap((size) => {
      const losses = size.probability > 0 ? this.histogram.losses(size) : null;
      if (!losses) return [];
      const seen = losses.counts.reduce((sum, n) => sum + n, 0);
      const total = losses.sums.reduce((sum, loss, b) => sum + loss * this.#edm[b], 0);
      return [{ size, share: size.probability, mean: total / seen, losses: meanLosses(losses) }];
    });
    const shares = known.reduce((sum, { share }) => sum + share, 0);
    const mean = known.reduce((sum, one) => sum + (one.share * one.mean) / shares, 0);
    const factors = new Map(
      known.map(({ size, losses }) => [
        extentName(size),
        Float32Array.from(losses, (loss, b) => mean / (loss * this.#edm[b])),
      ]),
    );
    return (patch) => factors.get(extentName(patch)) ?? null;
  }
}
