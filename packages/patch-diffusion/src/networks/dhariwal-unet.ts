/**
 * The ADM U-Net of Dhariwal & Nichol 2021 as EDM configures it (Karras et al. 2022, table 1): scale-and-shift
 * conditioning, several attention heads of 64 channels, no auxiliary paths. Tensor names are the official ones.
 */
import type { ModuleDict, Tensor } from '@patch-diffusion/torch';
import { type DhariwalUNetOptions, dhariwalLevels, INIT, INIT_ZERO } from './dhariwal-levels.js';
import type { Init } from './init.js';
import { Conv2d, GroupNorm, Linear, PositionalEmbedding } from './layers.js';
import { buildLayers, type Conditioning, joinSkip, UNet } from './unet.js';
import { blocksOf, modulations, UNetBlock } from './unet-block.js';

export class DhariwalUNet extends UNet {
  readonly #mapNoise: PositionalEmbedding;
  readonly #mapAugment: Linear | null;
  readonly #mapLayer0: Linear;
  readonly #mapLayer1: Linear;
  readonly #mapLabel: Linear | null;
  readonly #enc: ModuleDict;
  readonly #dec: ModuleDict;
  readonly #blocks: readonly UNetBlock[];
  readonly #outNorm: GroupNorm;
  readonly #outConv: Conv2d;

  constructor(options: DhariwalUNetOptions) {
    const levels = dhariwalLevels(options);
    super(levels, options);
    const { enc, dec, channels, modelChannels } = levels;
    const { labelDim = 0, augmentDim = 0, channelMultEmb = 4 } = options;
    const embChannels = modelChannels * channelMultEmb;

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

    this.#enc = this.addModule('enc', buildLayers(enc, embChannels));
    this.#dec = this.addModule('dec', buildLayers(dec, embChannels));
    this.#blocks = blocksOf(this.#enc, this.#dec);
    this.#outNorm = this.addModule('out_norm', new GroupNorm(channels));
    this.#outConv = this.addModule(
      'out_conv',
      new Conv2d(channels, options.outChannels, 3, { init: INIT_ZERO }),
    );
  }

  forward(x: Tensor, noiseLabels: Tensor, conditioning: Conditioning = {}): Tensor {
    this.checkDivisible(x);
    const embedding = this.#embed(noiseLabels, conditioning); // [N | 1, E]
    const modulation = modulations(this.#blocks, embedding);
    const skips: Tensor[] = [];
    for (const [, layer] of this.#enc) {
      x =
        layer instanceof UNetBlock ? layer.forward(x, modulation.get(layer)!) : (layer as Conv2d).forward(x);
      skips.push(x); // [N, C, h, w] of this level
    }
    for (const [, layer] of this.#dec) {
      const block = layer as UNetBlock;
      x = block.forward(joinSkip(x, block.inChannels, skips), modulation.get(block)!); // [N, C, h, w]
    }
    return this.#outConv.forward(this.#outNorm.forward(x, { silu: true })); // [N, out, H, W]
  }

  /** Noise level, augmentation and labels → [N | 1, E]. */
  #embed(noiseLabels: Tensor, { classLabels, augmentLabels, random }: Conditioning): Tensor {
    let e = this.#mapNoise.forward(noiseLabels); // [N | 1, M]
    if (this.#mapAugment && augmentLabels) e = e.add(this.#mapAugment.forward(augmentLabels));
    e = this.#mapLayer1.forward(this.#mapLayer0.forward(e).silu()); // [N | 1, E]
    if (this.#mapLabel && classLabels)
      e = e.add(this.#mapLabel.forward(this.dropLabels(classLabels, random)));
    return e.silu();
  }
}
