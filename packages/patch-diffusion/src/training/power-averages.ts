/**
 * Averages of the weights with power-function profiles (Karras et al. 2024, arXiv 2312.02696, section 3.1), of two widths,
 * from which `ema` makes one of any width afterwards. Time is counted in images by their pixels: patches that together
 * have the pixels of one image are one image, whatever the mix of sizes.
 */
import type { FollowingAverage, Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { powerBeta, powerGamma, TRACKED_WIDTHS } from '../interchange/power-function.js';
import type { Extent } from '../patches/extent.js';

export class PowerAverages {
  /** Images so far, by pixels. */
  time = 0;
  /** The parameters' averages, by relative width. */
  readonly averages: ReadonlyMap<number, ReadonlyMap<string, Tensor>>;

  /** @param network its parameters are followed; they have their final device */
  constructor(network: Module) {
    const copies = () =>
      new Map(Array.from(network.namedParameters(), ([name, t]) => [name, torch.keep(t.detach().clone())]));
    this.averages = torch.noGrad(() => new Map(TRACKED_WIDTHS.map((width) => [width, copies()])));
  }

  /**
   * Counts an update.
   * @param images of the update, by pixels
   * @returns how the averages follow the parameters after it
   */
  advance(images: number): FollowingAverage[] {
    this.time += images;
    return Array.from(this.averages, ([width, tensors]) => ({
      averages: [...tensors.values()],
      beta: powerBeta(powerGamma(width), this.time, images),
    }));
  }

  /** `0.05.<name>`, `0.1.<name>` for each parameter; live tensors. */
  stateDict(): Map<string, Tensor> {
    return new Map(
      Array.from(this.averages).flatMap(([width, tensors]) =>
        Array.from(tensors, ([name, tensor]): [string, Tensor] => [`${width}.${name}`, tensor]),
      ),
    );
  }

  dispose(): void {
    for (const tensor of this.stateDict().values()) tensor.dispose();
  }
}

/** Images by pixels of patches of an update. */
export function imagesByPixels(
  microBatches: readonly { readonly patch: Extent; readonly indices: ArrayLike<number> }[],
  image: Extent,
): number {
  const pixels = microBatches.reduce(
    (sum, { patch, indices }) => sum + indices.length * patch.height * patch.width,
    0,
  );
  return pixels / (image.height * image.width);
}
