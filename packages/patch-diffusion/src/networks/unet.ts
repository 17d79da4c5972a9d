/** What the preconditioners and the trainer need to know of a raw network. */

import * as torch from '@patch-diffusion/torch';
import { Module, type Tensor } from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';

/** Optional inputs of a network besides the image and its noise level. */
export interface Conditioning {
  /** Class labels [N | 1, labelDim], usually one-hot. Zeros mean "unconditional". */
  readonly classLabels?: Tensor | null;
  /** Augmentation parameters [N | 1, augmentDim]. */
  readonly augmentLabels?: Tensor | null;
  /** Source of the label-dropout draw; needed in training when the network drops labels. */
  readonly random?: RandomSource;
}

/** Sizes that every U-Net has, besides its own options. */
export interface UNetShape {
  /** Nominal side of the images in pixels; it names the levels and places the attention. */
  readonly imgResolution: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Length of the class-label vectors; 0 for none. */
  readonly labelDim?: number;
  /** Length of the augmentation vectors; 0 for none. */
  readonly augmentDim?: number;
}

/** A raw denoising network F(x, c_noise): [N, in, H, W] and [N | 1] → [N, out, H, W]. */
export abstract class UNet extends Module {
  /** Both sides of an input must be divisible by this, 2^(levels − 1). */
  abstract readonly sizeFactor: number;

  /**
   * @param x images or patches, [N, in, H, W]
   * @param noiseLabels transformed noise levels, [N] or [1]
   */
  abstract forward(x: Tensor, noiseLabels: Tensor, conditioning?: Conditioning): Tensor;
}

/** Zeroes each sample's label vector with probability `rate`; labels are kept where the draw is at least `rate`. */
export function dropLabels(labels: Tensor, rate: number, random: RandomSource | undefined): Tensor {
  if (!random) throw new Error('internal: label dropout in training needs a random source');
  const keep = random.rand('label_dropout', [labels.shape[0], 1]).ge(rate);
  return labels.mul(keep.to({ dtype: labels.dtype }));
}

/** Fails early, with both sizes named, where a feature map could not be halved. */
export function checkDivisible(x: Tensor, factor: number): void {
  const [, , height, width] = x.shape;
  if (height % factor || width % factor) {
    throw new RangeError(
      `The network halves its input until both sides are divided by ${factor}; ${width}×${height} pixels cannot be.`,
    );
  }
}

/** Concatenates a skip connection behind the decoder's features where the next block expects it. */
export function joinSkip(x: Tensor, inChannels: number, skips: Tensor[]): Tensor {
  return x.shape[1] === inChannels ? x : torch.cat([x, skips.pop()!], 1);
}
