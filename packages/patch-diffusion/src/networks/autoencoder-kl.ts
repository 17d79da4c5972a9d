/**
 * The autoencoder of latent diffusion (Rombach et al. 2022, "AutoencoderKL"): images ↔ latents of a fraction of the side.
 * Parameter names are those of diffusers' files, with the newer names of the attention (to_q, to_k, to_v, to_out.0).
 * Inference only: every intermediate feature map is freed as soon as the next one is there, since a scope around a
 * whole decoder would hold gigabytes. Loading is in latents/autoencoder-folder.ts.
 * Shapes in comments: N batch, C channels, H W image, h w latent, L = H·W of a feature map.
 */

import * as torch from '@patch-diffusion/torch';
import { Module, ModuleList, type Tensor } from '@patch-diffusion/torch';
import type { Extent } from '../patches/extent.js';
import type { Init } from './init.js';
import { Conv2d, GroupNorm, Linear } from './layers.js';

/** Sizes of an autoencoder, and the affine map between its codes and the latents that diffusion is trained on. */
export interface AutoencoderConfig {
  readonly inChannels: number;
  readonly outChannels: number;
  readonly latentChannels: number;
  /** Width of each level, the finest first; the side is halved between levels. */
  readonly blockOutChannels: readonly number[];
  /** Residual blocks per level of the encoder; the decoder has one more. */
  readonly layersPerBlock: number;
  readonly normNumGroups: number;
  readonly useQuantConv: boolean;
  readonly usePostQuantConv: boolean;
  readonly midBlockAddAttention: boolean;
  /** latent = (code − shiftFactor) · scalingFactor. */
  readonly scalingFactor: number;
  readonly shiftFactor: number;
}

/** The sizes of Stable Diffusion's kl-f8 (`stabilityai/sd-vae-ft-ema`): 8 times smaller sides, 4 channels. */
export const STABLE_DIFFUSION_AUTOENCODER: AutoencoderConfig = {
  inChannels: 3,
  outChannels: 3,
  latentChannels: 4,
  blockOutChannels: [128, 256, 512, 512],
  layersPerBlock: 2,
  normNumGroups: 32,
  useQuantConv: true,
  usePostQuantConv: true,
  midBlockAddAttention: true,
  scalingFactor: 0.18215,
  shiftFactor: 0,
};

/** The normal distribution of an image's code, element by element: both [N, C, h, w]. */
export interface Posterior {
  readonly mean: Tensor;
  /** Logarithm of the variance, in [−30, 20]. */
  readonly logvar: Tensor;
}

/** The configuration with the initialisation of all layers, as handed down while building. */
interface Plan extends AutoencoderConfig {
  readonly init: Init;
}

/** PyTorch's default initialisation: uniform in ±1/√fan-in, biases too. */
const RANDOM: Init = { mode: 'kaiming_uniform', weight: Math.sqrt(1 / 3), bias: Math.sqrt(1 / 3) };
const NORM_EPS = 1e-6;

/** Encoder and decoder, random as made, for tests, or `zeros` where weights are loaded next. */
export class AutoencoderKL extends Module {
  /** Image side / latent side. */
  readonly downFactor: number;
  readonly #encoder: Encoder;
  readonly #decoder: Decoder;
  readonly #quant: Conv2d | null;
  readonly #postQuant: Conv2d | null;

  constructor(
    readonly config: AutoencoderConfig,
    init: 'random' | 'zeros' = 'random',
  ) {
    super();
    const plan: Plan = { ...config, init: init === 'random' ? RANDOM : { mode: 'zeros' } };
    const moments = 2 * config.latentChannels;
    this.downFactor = 2 ** (config.blockOutChannels.length - 1);
    this.#encoder = this.addModule('encoder', new Encoder(plan));
    this.#decoder = this.addModule('decoder', new Decoder(plan));
    this.#quant = config.useQuantConv ? this.addModule('quant_conv', conv(moments, moments, 1, plan)) : null;
    this.#postQuant = config.usePostQuantConv
      ? this.addModule('post_quant_conv', conv(config.latentChannels, config.latentChannels, 1, plan))
      : null;
  }

  /**
   * Mean and log-variance before the latter is clamped.
   * @param images [N, 3, H, W] in [−1, 1], both sides multiples of {@link downFactor}
   * @returns [N, 2·C, h, w]
   * @throws RangeError for other sides
   */
  moments(images: Tensor): Tensor {
    const [, , H, W] = images.shape;
    if (H % this.downFactor || W % this.downFactor) {
      throw new RangeError(
        `The autoencoder divides both sides by ${this.downFactor}; ${W}×${H} pixels cannot be.`,
      );
    }
    return pipe(images, this.#encoder, this.#quant);
  }

  /** The distribution of the codes of images [N, 3, H, W] in [−1, 1]; see {@link moments}. */
  encode(images: Tensor): Posterior {
    return torch.noGrad(() =>
      torch.scope(() => {
        const [mean, logvar] = this.moments(images).chunk(2, 1);
        return { mean: mean.contiguous(), logvar: logvar.clamp(-30, 20) };
      }),
    );
  }

  /**
   * Images of codes (unscaled).
   * @param codes [N, C, h, w]
   * @returns [N, 3, H, W], roughly in [−1, 1], not clamped
   */
  decode(codes: Tensor): Tensor {
    return torch.noGrad(() => pipe(codes, this.#postQuant, this.#decoder));
  }
}

/** A code from its distribution and standard normal noise of its shape, [N, C, h, w]. */
export function samplePosterior({ mean, logvar }: Posterior, noise: Tensor): Tensor {
  return torch.scope(() => torch.addcmul(mean, logvar.mul(0.5).exp(), noise));
}

/** Images at a time for which encoding or decoding takes about 1.5 GB with Stable Diffusion's autoencoder. */
export function encodeBatchSize({ height, width }: Extent): number {
  return Math.max(1, Math.floor((4 * 256 * 256) / (height * width)));
}

/** One link of a chain: a layer, or a function. */
type Stage = { forward(x: Tensor): Tensor } | ((x: Tensor) => Tensor);

/** Runs the stages one after another; each frees its predecessor's result. */
function pipe(x: Tensor, ...stages: readonly (Stage | null)[]): Tensor {
  let y = x;
  for (const stage of stages) {
    if (stage === null) continue;
    const from = y;
    y = torch.scope(() => (typeof stage === 'function' ? stage(from) : stage.forward(from)));
    if (from !== x) from.dispose();
  }
  return y;
}

const silu = (x: Tensor): Tensor => x.silu();

function conv(from: number, to: number, kernel: number, { init }: Plan): Conv2d {
  return new Conv2d(from, to, kernel, { init });
}

function norm(channels: number, plan: Plan): GroupNorm {
  return new GroupNorm(channels, NORM_EPS, { numGroups: plan.normNumGroups, minChannelsPerGroup: 1 });
}

/** Stages one after another; subclasses say which. */
abstract class Chain extends Module {
  protected stages: readonly Stage[] = [];

  forward(x: Tensor): Tensor {
    return pipe(x, ...this.stages);
  }
}

/** [N, 3, H, W] → [N, 2·C, h, w]. */
class Encoder extends Chain {
  constructor(plan: Plan) {
    super();
    const widths = plan.blockOutChannels;
    const last = widths[widths.length - 1];
    const convIn = this.addModule('conv_in', conv(plan.inChannels, widths[0], 3, plan));
    const levels = makeLevels(widths, plan.layersPerBlock, plan, 'down');
    this.addModule('down_blocks', new ModuleList(levels));
    const mid = this.addModule('mid_block', new MidBlock(last, plan));
    const normOut = this.addModule('conv_norm_out', norm(last, plan));
    const convOut = this.addModule('conv_out', conv(last, 2 * plan.latentChannels, 3, plan));
    this.stages = [convIn, ...levels, mid, normOut, silu, convOut];
  }
}

/** [N, C, h, w] → [N, 3, H, W]. */
class Decoder extends Chain {
  constructor(plan: Plan) {
    super();
    const widths = [...plan.blockOutChannels].reverse();
    const [first, last] = [widths[0], widths[widths.length - 1]];
    const convIn = this.addModule('conv_in', conv(plan.latentChannels, first, 3, plan));
    const levels = makeLevels(widths, plan.layersPerBlock + 1, plan, 'up');
    this.addModule('up_blocks', new ModuleList(levels));
    const mid = this.addModule('mid_block', new MidBlock(first, plan));
    const normOut = this.addModule('conv_norm_out', norm(last, plan));
    const convOut = this.addModule('conv_out', conv(last, plan.outChannels, 3, plan));
    this.stages = [convIn, mid, ...levels, normOut, silu, convOut];
  }
}

/** One level per width; all but the last end with a step to the next side. */
function makeLevels(widths: readonly number[], blocks: number, plan: Plan, step: 'down' | 'up'): Level[] {
  return widths.map((width, level) => {
    const isLast = level === widths.length - 1;
    return new Level(widths[Math.max(level - 1, 0)], width, blocks, plan, isLast ? null : step);
  });
}

/** Residual blocks of one resolution, then the step to the next one. */
class Level extends Chain {
  constructor(from: number, to: number, blocks: number, plan: Plan, step: 'down' | 'up' | null) {
    super();
    const resnets = Array.from({ length: blocks }, (_, k) => new ResnetBlock(k ? to : from, to, plan));
    this.addModule('resnets', new ModuleList(resnets));
    this.stages = resnets;
    if (step === null) return;
    const resample = step === 'down' ? new Downsample(to, plan) : new Upsample(to, plan);
    this.addModule(`${step}samplers`, new ModuleList([resample]));
    this.stages = [...resnets, resample];
  }
}

class MidBlock extends Chain {
  constructor(channels: number, plan: Plan) {
    super();
    const attentions = plan.midBlockAddAttention ? [new SelfAttention(channels, plan)] : [];
    const resnets = [0, 1].map(() => new ResnetBlock(channels, channels, plan));
    if (attentions.length) this.addModule('attentions', new ModuleList(attentions));
    this.addModule('resnets', new ModuleList(resnets));
    this.stages = [resnets[0], ...attentions, resnets[1]];
  }
}

/** x + conv(silu(norm(conv(silu(norm(x)))))), with a 1×1 convolution of x where the width changes. */
class ResnetBlock extends Chain {
  readonly #shortcut: Conv2d | null;

  constructor(from: number, to: number, plan: Plan) {
    super();
    const norm1 = this.addModule('norm1', norm(from, plan));
    const conv1 = this.addModule('conv1', conv(from, to, 3, plan));
    const norm2 = this.addModule('norm2', norm(to, plan));
    const conv2 = this.addModule('conv2', conv(to, to, 3, plan));
    this.stages = [norm1, silu, conv1, norm2, silu, conv2];
    this.#shortcut = from === to ? null : this.addModule('conv_shortcut', conv(from, to, 1, plan));
  }

  override forward(x: Tensor): Tensor {
    const h = super.forward(x); // [N, to, H, W]
    return (this.#shortcut?.forward(x) ?? x).add(h);
  }
}

/** Halves the side: zeros right and below only, then a 3×3 convolution of stride 2. */
class Downsample extends Module {
  readonly #conv: Conv2d;

  constructor(channels: number, plan: Plan) {
    super();
    this.#conv = this.addModule('conv', conv(channels, channels, 3, plan));
  }

  forward(x: Tensor): Tensor {
    return torch.conv2d(torch.constantPadNd(x, [0, 1, 0, 1]), this.#conv.weight!, this.#conv.bias, 2);
  }
}

/** Doubles the side: nearest neighbour, then a 3×3 convolution. */
class Upsample extends Module {
  readonly #conv: Conv2d;

  constructor(channels: number, plan: Plan) {
    super();
    this.#conv = this.addModule('conv', conv(channels, channels, 3, plan));
  }

  forward(x: Tensor): Tensor {
    const [, , H, W] = x.shape;
    return this.#conv.forward(torch.upsampleNearest2d(x, [H * 2, W * 2]));
  }
}

/** Attention over all positions with one head, added to its input: [N, C, H, W] → the same. */
class SelfAttention extends Module {
  readonly #norm: GroupNorm;
  readonly #q: Linear;
  readonly #k: Linear;
  readonly #v: Linear;
  readonly #out: Linear;

  constructor(channels: number, plan: Plan) {
    super();
    const linear = () => new Linear(channels, channels, { init: plan.init });
    this.#norm = this.addModule('group_norm', norm(channels, plan));
    this.#q = this.addModule('to_q', linear());
    this.#k = this.addModule('to_k', linear());
    this.#v = this.addModule('to_v', linear());
    this.#out = linear();
    this.addModule('to_out', new ModuleList([this.#out]));
  }

  forward(x: Tensor): Tensor {
    const [N, C, H, W] = x.shape;
    const tokens = this.#norm
      .forward(x)
      .reshape([N, C, H * W])
      .transpose(1, 2); // [N, L, C]
    const [q, k, v] = [this.#q, this.#k, this.#v].map((layer) => layer.forward(tokens)); // each [N, L, C]
    const a = this.#out.forward(attend(q, k, v)); // [N, L, C]
    return a.transpose(1, 2).reshape([N, C, H, W]).add(x);
  }
}

/** softmax(q kᵀ / √C) v of [N, L, C]. */
function attend(q: Tensor, k: Tensor, v: Tensor): Tensor {
  if (torch.hasOp('scaled_dot_product_attention')) {
    // The fused kernels want an axis for heads.
    const [q1, k1, v1] = [q, k, v].map((t) => t.unsqueeze(1)); // [N, 1, L, C]
    return torch.scaledDotProductAttention(q1, k1, v1).squeeze(1);
  }
  const scores = torch.bmm(q, k.transpose(1, 2)).div(Math.sqrt(q.shape[2])); // [N, L, L]
  return torch.bmm(scores.softmax(-1), v);
}
