/**
 * The ADM U-Net of Dhariwal & Nichol 2021 as EDM configures it (Karras et al. 2022, table 1): scale-and-shift
 * conditioning, several attention heads of 64 channels, no auxiliary paths. Tensor names are the official ones.
 */
import type { ModuleDict, Tensor } from '@patch-diffusion/torch';
import { buildLayers } from './build-layers.js';
import { dhariwalLevels, INIT, INIT_ZERO } from './dhariwal-levels.js';
import type { Init } from './init.js';
import { Conv2d, GroupNorm, Linear, PositionalEmbedding } from './layers.js';
import { type Conditioning, checkDivisible, dropLabels, joinSkip, UNet, type UNetShape } from './unet.js';
import { UNetBlock } from './unet-block.js';

export interface DhariwalUNetOptions extends UNetShape {
  /** Base channel count M. Default 192. */
  readonly modelChannels?: number;
  /** Channel multiplier per level, the finest first. Default [1, 2, 3, 4]. */
  readonly channelMult?: readonly number[];
  /** Width of the embedding in units of M. Default 4. */
  readonly channelMultEmb?: number;
  /** Residual blocks per level of the encoder. Default 3. */
  readonly numBlocks?: number;
  /** Nominal resolutions with self-attention. Default [32, 16, 8]. */
  readonly attnResolutions?: readonly number[];
  /** Dropout probability in the residual blocks. Default 0.1. */
  readonly dropout?: number;
  /** Probability of dropping a sample's class label in training. Default 0. */
  readonly labelDropout?: number;
}

export class DhariwalUNet extends UNet {
  readonly sizeFactor: number;
  readonly #labelDropout: number;
  readonly #mapNoise: PositionalEmbedding;
  readonly #mapAugment: Linear | null;
  readonly #mapLayer0: Linear;
  readonly #mapLayer1: Linear;
  readonly #mapLabel: Linear | null;
  readonly #enc: ModuleDict;
  readonly #dec: ModuleDict;
  readonly #outNorm: GroupNorm;
  readonly #outConv: Conv2d;

  constructor(options: DhariwalUNetOptions) {
    super();
    const { labelDim = 0, augmentDim = 0, modelChannels = 192, channelMult = [1, 2, 3, 4] } = options;
    const embChannels = modelChannels * (options.channelMultEmb ?? 4);
    this.sizeFactor = 2 ** (channelMult.length - 1);
    this.#labelDropout = options.labelDropout ?? 0;

    this.#mapNoise = this.addModule('map_noise', new PositionalEmbedding(modelChannels));
    this.#mapAugment = augmentDim
      ? this.addModule('map_augment', new Linear(augmentDim, modelChannels, { bias: false, init: INIT_ZERO }))
      : null;
    this.#mapLayer0 = this.addModule('map_layer0', new Linear(modelChannels, embChannels, { init: INIT }));
    this.#mapLayer1 = this.addModule('map_layer1', new Linear(embChannels, embChannels, { init: INIT }));
    const labelInit: Init = { mode: 'kaiming_normal', weight: Math.sqrt(labelDim) };
    this.#mapLabel = labelDim
      ? this.addModule('map_label', new Linear(labelDim, embChannels, { bias: false, init: labelInit }))
      : null;

    const { enc, dec, channels } = dhariwalLevels(options);
    this.#enc = this.addModule('enc', buildLayers(enc, embChannels));
    this.#dec = this.addModule('dec', buildLayers(dec, embChannels));
    this.#outNorm = this.addModule('out_norm', new GroupNorm(channels));
    this.#outConv = this.addModule(
      'out_conv',
      new Conv2d(channels, options.outChannels, 3, { init: INIT_ZERO }),
    );
  }

  forward(x: Tensor, noiseLabels: Tensor, conditioning: Conditioning = {}): Tensor {
    checkDivisible(x, this.sizeFactor);
    const embedding = this.#embed(noiseLabels, conditioning);
    const skips: Tensor[] = [];
    for (const [, layer] of this.#enc) {
      x = layer instanceof UNetBlock ? layer.forward(x, embedding) : (layer as Conv2d).forward(x);
      skips.push(x);
    }
    for (const [, layer] of this.#dec) {
      const block = layer as UNetBlock;
      x = block.forward(joinSkip(x, block.inChannels, skips), embedding);
    }
    return this.#outConv.forward(this.#outNorm.forward(x).silu());
  }

  /** Noise level, augmentation and labels → [N | 1, E]. */
  #embed(noiseLabels: Tensor, { classLabels, augmentLabels, random }: Conditioning): Tensor {
    let e = this.#mapNoise.forward(noiseLabels);
    if (this.#mapAugment && augmentLabels) e = e.add(this.#mapAugment.forward(augmentLabels));
    e = this.#mapLayer1.forward(this.#mapLayer0.forward(e).silu());
    if (this.#mapLabel && classLabels) {
      const labels =
        this.training && this.#labelDropout
          ? dropLabels(classLabels, this.#labelDropout, random)
          : classLabels;
      e = e.add(this.#mapLabel.forward(labels));
    }
    return e.silu();
  }
}
