/**
 * The U-Net of Song et al. 2021 as EDM configures it (Karras et al. 2022, table 1): DDPM++ with
 * `embeddingType: 'positional'` and standard encoder and decoder, NCSN++ with `'fourier'` and a residual encoder.
 * Tensor names are those of the official checkpoints. Patch Diffusion adds `implicitMlp`.
 */

import type { Module, ModuleDict, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { buildLayers } from './build-layers.js';
import {
  type Conv2d,
  FourierEmbedding,
  type GroupNorm,
  Linear,
  type PointwiseMlp,
  PositionalEmbedding,
} from './layers.js';
import { INIT, songLevels } from './song-levels.js';
import { type Conditioning, checkDivisible, dropLabels, joinSkip, UNet, type UNetShape } from './unet.js';
import { UNetBlock } from './unet-block.js';

export interface SongUNetOptions extends UNetShape {
  /** Base channel count M. Default 128. */
  readonly modelChannels?: number;
  /** Channel multiplier per level, the finest first. Default [1, 2, 2, 2]. */
  readonly channelMult?: readonly number[];
  /** Width of the embedding in units of M. Default 4. */
  readonly channelMultEmb?: number;
  /** Residual blocks per level of the encoder. Default 4. */
  readonly numBlocks?: number;
  /** Nominal resolutions with self-attention. Default [16]. */
  readonly attnResolutions?: readonly number[];
  /** Dropout probability in the residual blocks. Default 0.1. */
  readonly dropout?: number;
  /** Probability of dropping a sample's class label in training. Default 0. */
  readonly labelDropout?: number;
  readonly embeddingType?: 'positional' | 'fourier';
  /** Width of the noise embedding in units of M. Default 1; NCSN++ uses 2. */
  readonly channelMultNoise?: number;
  readonly encoderType?: 'standard' | 'skip' | 'residual';
  readonly decoderType?: 'standard' | 'skip';
  /** Resampling taps. Default [1, 1]; NCSN++ uses [1, 3, 3, 1]. */
  readonly resampleFilter?: readonly number[];
  /** Puts a pointwise MLP before the first convolution. Default false. */
  readonly implicitMlp?: boolean;
}

export class SongUNet extends UNet {
  readonly sizeFactor: number;
  readonly labelDim: number;
  readonly #labelDropout: number;
  readonly #mapNoise: PositionalEmbedding | FourierEmbedding;
  readonly #mapLabel: Linear | null;
  readonly #mapAugment: Linear | null;
  readonly #mapLayer0: Linear;
  readonly #mapLayer1: Linear;
  readonly #enc: ModuleDict;
  readonly #dec: ModuleDict;

  constructor(options: SongUNetOptions) {
    super();
    const { labelDim = 0, augmentDim = 0, modelChannels = 128, channelMult = [1, 2, 2, 2] } = options;
    const { channelMultEmb = 4, channelMultNoise = 1, embeddingType = 'positional' } = options;
    const embChannels = modelChannels * channelMultEmb;
    const noiseChannels = modelChannels * channelMultNoise;
    this.sizeFactor = 2 ** (channelMult.length - 1);
    this.labelDim = labelDim;
    this.#labelDropout = options.labelDropout ?? 0;

    this.#mapNoise = this.addModule(
      'map_noise',
      embeddingType === 'positional'
        ? new PositionalEmbedding(noiseChannels, 10000, true)
        : new FourierEmbedding(noiseChannels),
    );
    this.#mapLabel = labelDim
      ? this.addModule('map_label', new Linear(labelDim, noiseChannels, { init: INIT }))
      : null;
    this.#mapAugment = augmentDim
      ? this.addModule('map_augment', new Linear(augmentDim, noiseChannels, { bias: false, init: INIT }))
      : null;
    this.#mapLayer0 = this.addModule('map_layer0', new Linear(noiseChannels, embChannels, { init: INIT }));
    this.#mapLayer1 = this.addModule('map_layer1', new Linear(embChannels, embChannels, { init: INIT }));

    const { enc, dec } = songLevels(options);
    this.#enc = this.addModule('enc', buildLayers(enc, embChannels));
    this.#dec = this.addModule('dec', buildLayers(dec, embChannels));
  }

  forward(x: Tensor, noiseLabels: Tensor, conditioning: Conditioning = {}): Tensor {
    checkDivisible(x, this.sizeFactor);
    const embedding = this.#embed(noiseLabels, conditioning);
    return this.#decode(...this.#encode(x, embedding), embedding);
  }

  /** Noise level, labels and augmentation → [N | 1, E]. */
  #embed(noiseLabels: Tensor, { classLabels, augmentLabels, random }: Conditioning): Tensor {
    const [cos, sin] = this.#mapNoise.forward(noiseLabels).chunk(2, 1);
    let e = torch.cat([sin, cos], 1);
    if (this.#mapLabel && classLabels) {
      const labels =
        this.training && this.#labelDropout
          ? dropLabels(classLabels, this.#labelDropout, random)
          : classLabels;
      e = e.add(this.#mapLabel.forward(labels.mul(Math.sqrt(this.labelDim))));
    }
    if (this.#mapAugment && augmentLabels) e = e.add(this.#mapAugment.forward(augmentLabels));
    return this.#mapLayer1.forward(this.#mapLayer0.forward(e).silu()).silu();
  }

  #encode(x: Tensor, embedding: Tensor): [Tensor, Tensor[]] {
    const skips: Tensor[] = [];
    let aux = x;
    for (const [name, layer] of this.#enc) {
      if (name.includes('aux_down')) {
        aux = run(layer, aux);
      } else if (name.includes('aux_skip')) {
        x = x.add(run(layer, aux));
        skips[skips.length - 1] = x;
      } else if (name.includes('aux_residual')) {
        x = x.add(run(layer, aux)).mul(Math.SQRT1_2);
        skips[skips.length - 1] = x;
        aux = x;
      } else {
        x = layer instanceof UNetBlock ? layer.forward(x, embedding) : run(layer, x);
        skips.push(x);
      }
    }
    return [x, skips];
  }

  #decode(x: Tensor, skips: Tensor[], embedding: Tensor): Tensor {
    let aux: Tensor | null = null;
    let normed = x;
    for (const [name, layer] of this.#dec) {
      if (name.includes('aux_up')) {
        aux = run(layer, aux!);
      } else if (name.includes('aux_norm')) {
        normed = run(layer, x);
      } else if (name.includes('aux_conv')) {
        const image = run(layer, normed.silu());
        aux = aux ? image.add(aux) : image;
      } else {
        const block = layer as UNetBlock;
        x = block.forward(joinSkip(x, block.inChannels, skips), embedding);
      }
    }
    return aux!;
  }
}

function run(layer: Module, x: Tensor): Tensor {
  return (layer as Conv2d | GroupNorm | PointwiseMlp).forward(x);
}
