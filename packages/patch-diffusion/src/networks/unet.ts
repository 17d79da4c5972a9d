/** What both U-Nets share, and what the preconditioners and the trainer need to know of them. */
import * as torch from '@patch-diffusion/torch';
import { Module, ModuleDict, type Tensor } from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import { Conv2d, GroupNorm, PointwiseMlp } from './layers.js';
import type { LayerSpec, Levels, NamedLayers, UNetShape } from './levels.js';
import { UNetBlock } from './unet-block.js';

/** Optional inputs of a network besides the image and its noise level. */
export interface Conditioning {
  /** Class labels [N | 1, labelDim], usually one-hot. Zeros mean "unconditional". */
  readonly classLabels?: Tensor | null;
  /** Augmentation parameters [N | 1, augmentDim]. */
  readonly augmentLabels?: Tensor | null;
  /** Source of the label-dropout draw; needed in training when the network drops labels. */
  readonly random?: RandomSource;
}

/** A raw denoising network F(x, c_noise): [N, in, H, W] and [N | 1] → [N, out, H, W]. */
export abstract class UNet extends Module {
  /** Both sides of an input must be divisible by this, 2^(levels − 1). */
  readonly sizeFactor: number;
  readonly #labelDropout: number;

  constructor({ sizeFactor }: Levels, { labelDropout = 0 }: UNetShape) {
    super();
    this.sizeFactor = sizeFactor;
    this.#labelDropout = labelDropout;
  }

  /**
   * @param x images or patches, [N, in, H, W]
   * @param noiseLabels transformed noise levels, [N] or [1]
   */
  abstract forward(x: Tensor, noiseLabels: Tensor, conditioning?: Conditioning): Tensor;

  /** In training, zeroes each sample's label vector with the probability of label dropout. */
  protected dropLabels(labels: Tensor, random: RandomSource | undefined): Tensor {
    if (!this.training || !this.#labelDropout) return labels;
    if (!random) throw new Error('internal: label dropout in training needs a random source');
    const keep = random.rand('label_dropout', [labels.shape[0], 1]).ge(this.#labelDropout); // [N, 1]
    return labels.mul(keep.to({ dtype: labels.dtype }));
  }

  /** Fails early, with both sizes named, where a feature map could not be halved. */
  protected checkDivisible(x: Tensor): void {
    const [, , height, width] = x.shape;
    if (height % this.sizeFactor || width % this.sizeFactor) {
      throw new RangeError(
        `The network halves its input until both sides are divided by ${this.sizeFactor}; ${width}×${height} pixels cannot be.`,
      );
    }
  }
}

/** Builds layers in their order, which is that of the random draws. */
export function buildLayers(layers: NamedLayers, embChannels: number): ModuleDict {
  const dict = new ModuleDict();
  for (const [name, layer] of layers) dict.set(name, buildLayer(layer, embChannels));
  return dict;
}

function buildLayer(layer: LayerSpec, embChannels: number): Module {
  switch (layer.kind) {
    case 'block':
      return new UNetBlock(layer.from, layer.to, embChannels, layer.options);
    case 'conv':
      return new Conv2d(layer.from, layer.to, layer.kernel, layer.options);
    case 'norm':
      return new GroupNorm(layer.channels, layer.eps);
    case 'mlp':
      return new PointwiseMlp(layer.from, layer.to, layer.init);
  }
}

/** Concatenates a skip connection behind the decoder's features where the next block expects it: [N, C + skip, H, W]. */
export function joinSkip(x: Tensor, inChannels: number, skips: Tensor[]): Tensor {
  return x.shape[1] === inChannels ? x : torch.cat([x, skips.pop()!], 1);
}
