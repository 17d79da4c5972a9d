/**
 * A small classifier whose last hidden layer gives features: four convolutions with group normalisation, the mean over
 * the image, and a linear layer. Large images are shrunk first.
 * Shapes in comments: N batch, C channels, H W image, K classes.
 */
import * as torch from '@patch-diffusion/torch';
import { Module, type Tensor } from '@patch-diffusion/torch';
import { Conv2d, GroupNorm, Linear } from '../../networks/layers.js';

/** Channels of the convolutions; each but the last is followed by halving. */
const WIDTHS = [32, 64, 128, 128];

/** Length of a feature vector. */
export const CLASS_FEATURES = WIDTHS[WIDTHS.length - 1];

/** The longer side that the network sees at most. */
const MAX_SIDE = 64;

/** Classifies images; the layer before the classes is the feature vector. */
export class ClassNetwork extends Module {
  readonly #blocks: { conv: Conv2d; norm: GroupNorm }[];
  readonly #classes: Linear;

  constructor(channels: number, classes: number) {
    super();
    this.#blocks = WIDTHS.map((width, k) => ({
      conv: this.addModule(`conv${k}`, new Conv2d(k === 0 ? channels : WIDTHS[k - 1], width, 3, ZEROS)),
      norm: this.addModule(`norm${k}`, new GroupNorm(width)),
    }));
    this.#classes = this.addModule('classes', new Linear(CLASS_FEATURES, classes, ZEROS));
  }

  /** Draws the weights anew, from a seed of their own: other random streams stay as they are. */
  initialise(seed: number): this {
    const generator = new torch.Generator('cpu', seed);
    torch.noGrad(() =>
      torch.scope(() => {
        for (const tensor of this.parameters()) {
          if (tensor.ndim < 2) continue;
          const fanIn = tensor.numel / tensor.shape[0];
          tensor.copy_(torch.randn(tensor.shape, { generator }).mul(Math.sqrt(2 / fanIn)));
        }
      }),
    );
    return this;
  }

  /**
   * @param images uint8 [N, C, H, W]
   * @returns [N, 128]
   */
  features(images: Tensor): Tensor {
    return torch.scope(() => {
      let x = smaller(images.to({ dtype: 'float32' }).div(127.5).sub(1));
      for (const [k, { conv, norm }] of this.#blocks.entries()) {
        x = norm.forward(conv.forward(x), { silu: true });
        const [height, width] = x.shape.slice(2);
        if (k < this.#blocks.length - 1 && Math.min(height, width) > 1) x = torch.maxPool2d(x, 2);
      }
      return x.mean([2, 3]);
    });
  }

  /** @returns [N, K], before the softmax */
  logits(images: Tensor): Tensor {
    return torch.scope(() => this.#classes.forward(this.features(images)));
  }
}

/** Weights are loaded or drawn next. */
const ZEROS = { init: { mode: 'zeros' } } as const;

function smaller(x: Tensor): Tensor {
  const [height, width] = x.shape.slice(2);
  const factor = MAX_SIDE / Math.max(height, width);
  if (factor >= 1) return x;
  return torch.adaptiveAvgPool2d(
    x,
    [height, width].map((side) => Math.max(1, Math.round(side * factor))),
  );
}
