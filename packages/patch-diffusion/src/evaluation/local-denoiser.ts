/**
 * The optimal local denoiser (Kamb & Ganguli 2025, arXiv 2412.20292): what the best possible network would answer that sees
 * only a window around each pixel and knows where it is. Each pixel is the mean of the training images' pixels at its
 * place, weighed by how well their windows fit: no training, and a lower bound of what patches of that size can learn.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

export class LocalDenoiser {
  /** [N, C, H, W], float32 */
  readonly #images: Tensor;

  /** @param images training images in [−1, 1], [N, C, H, W]; the caller's to dispose */
  constructor(images: Tensor) {
    this.#images = images;
  }

  /**
   * D(x; σ) for windows of several sizes.
   * @param x a noisy image, [C, H, W]
   * @param windows sides in pixels, odd; windows reach only as far as the image does
   * @returns an estimate [C, H, W] for each window
   */
  estimate(x: Tensor, sigma: number, windows: readonly number[]): Tensor[] {
    return torch.scope(() => {
      const sums = summedArea(this.#images.sub(x).square().sum([1])); // [N, H + 1, W + 1]
      return windows.map((window) => {
        const fit = boxSums(sums, (window - 1) / 2).div(-2 * sigma ** 2); // [N, H, W]
        const shares = fit.softmax(0).to({ dtype: 'float32' }).unsqueeze(1); // [N, 1, H, W]
        return this.#images.mul(shares).sum([0]);
      });
    });
  }
}

/** Sums over all pixels above and left of a corner: [N, H, W] → float64 [N, H + 1, W + 1]. */
function summedArea(values: Tensor): Tensor {
  const sums = values.to({ dtype: 'float64' }).cumsum(1).cumsum(2);
  return torch.constantPadNd(sums, [1, 0, 1, 0]);
}

/** Sums over windows that reach `radius` pixels in each direction, as far as the image does: [N, H, W]. */
function boxSums(sums: Tensor, radius: number): Tensor {
  const along = (of: Tensor, dim: number): Tensor => {
    const side = of.shape[dim] - 1;
    const at = (place: (i: number) => number) =>
      of.indexSelect(dim, torch.tensor(BigInt64Array.from({ length: side }, (_, i) => BigInt(place(i)))));
    return at((i) => Math.min(side, i + radius + 1)).sub(at((i) => Math.max(0, i - radius)));
  };
  return along(along(sums, 1), 2);
}
