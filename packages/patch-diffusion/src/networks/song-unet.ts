/**
 * The U-Net of Song et al. 2021 as EDM configures it (Karras et al. 2022, table 1): DDPM++ with
 * `embeddingType: 'positional'` and standard encoder and decoder, NCSN++ with `'fourier'` and a residual encoder.
 * Tensor names are those of the official checkpoints. Patch Diffusion adds `implicitMlp`.
 */

import type { Module, ModuleDict, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import {
  type Conv2d,
  FourierEmbedding,
  type GroupNorm,
  Linear,
  type PointwiseMlp,
  PositionalEmbedding,
} from './layers.js';
import { INIT, type SongUNetOptions, songLevels } from './song-levels.js';
import { buildLayers, type Conditioning, joinSkip, UNet } from './unet.js';
import { blocksOf, type Modulations, modulations, UNetBlock } from './unet-block.js';

export class SongUNet extends UNet {
  readonly #labelScale: number;
  readonly #mapNoise: PositionalEmbedding | FourierEmbedding;
  readonly #mapLabel: Linear | null;
  readonly #mapAugment: Linear | null;
  readonly #mapLayer0: Linear;
  readonly #mapLayer1: Linear;
  readonly #enc: ModuleDict;
  readonly #dec: ModuleDict;
  readonly #blocks: readonly UNetBlock[];

  constructor(options: SongUNetOptions) {
    const levels = songLevels(options);
    super(levels, options);
    const { enc, dec, modelChannels } = levels;
    const { labelDim = 0, augmentDim = 0 } = options;
    const { channelMultEmb = 4, channelMultNoise = 1, embeddingType = 'positional' } = options;
    const embChannels = modelChannels * channelMultEmb;
    const noiseChannels = modelChannels * channelMultNoise;
    this.#labelScale = Math.sqrt(labelDim);

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

    this.#enc = this.addModule('enc', buildLayers(enc, embChannels));
    this.#dec = this.addModule('dec', buildLayers(dec, embChannels));
    this.#blocks = blocksOf(this.#enc, this.#dec);
  }

  forward(x: Tensor, noiseLabels: Tensor, conditioning: Conditioning = {}): Tensor {
    this.checkDivisible(x);
    const embedding = this.#embed(noiseLabels, conditioning); // [N | 1, E]
    const modulation = modulations(this.#blocks, embedding);
    const [coarsest, skips] = this.#encode(x, modulation); // [N, C, H / sizeFactor, W / sizeFactor]
    return this.#decode(coarsest, skips, modulation); // [N, out, H, W]
  }

  /** Noise level, labels and augmentation → [N | 1, E]. */
  #embed(noiseLabels: Tensor, { classLabels, augmentLabels, random }: Conditioning): Tensor {
    const [cos, sin] = this.#mapNoise.forward(noiseLabels).chunk(2, 1);
    let e = torch.cat([sin, cos], 1); // [N | 1, noise channels]
    if (this.#mapLabel && classLabels) {
      const labels = this.dropLabels(classLabels, random); // [N | 1, K]
      e = e.add(this.#mapLabel.forward(labels.mul(this.#labelScale)));
    }
    if (this.#mapAugment && augmentLabels) e = e.add(this.#mapAugment.forward(augmentLabels));
    return this.#mapLayer1.forward(this.#mapLayer0.forward(e).silu()).silu(); // [N | 1, E]
  }

  /** [N, in, H, W] → the coarsest features and, for the decoder, those of every layer. */
  #encode(x: Tensor, modulation: Modulations): [Tensor, Tensor[]] {
    const skips: Tensor[] = [];
    let aux = x;
    for (const [name, layer] of this.#enc) {
      if (name.includes('aux_down')) {
        aux = run(layer, aux); // [N, in, h, w], halved
      } else if (name.includes('aux_skip')) {
        x = x.add(run(layer, aux));
        skips[skips.length - 1] = x;
      } else if (name.includes('aux_residual')) {
        x = x.add(run(layer, aux)).mul(Math.SQRT1_2);
        skips[skips.length - 1] = x;
        aux = x;
      } else {
        x = layer instanceof UNetBlock ? layer.forward(x, modulation.get(layer)!) : run(layer, x); // [N, C, h, w]
        skips.push(x);
      }
    }
    return [x, skips];
  }

  /** [N, C, h, w] → [N, out, H, W]. */
  #decode(x: Tensor, skips: Tensor[], modulation: Modulations): Tensor {
    let aux: Tensor | null = null;
    let normed = x;
    for (const [name, layer] of this.#dec) {
      if (name.includes('aux_up')) {
        aux = run(layer, aux!); // [N, out, h, w], doubled
      } else if (name.includes('aux_norm')) {
        normed = (layer as GroupNorm).forward(x, { silu: true }); // [N, C, h, w]
      } else if (name.includes('aux_conv')) {
        const image = run(layer, normed); // [N, out, h, w]
        aux = aux ? image.add(aux) : image;
      } else {
        const block = layer as UNetBlock;
        x = block.forward(joinSkip(x, block.inChannels, skips), modulation.get(block)!); // [N, C, h, w]
      }
    }
    return aux!;
  }
}

/** A layer that takes nothing but its input. */
function run(layer: Module, x: Tensor): Tensor {
  return (layer as Conv2d | PointwiseMlp).forward(x);
}
