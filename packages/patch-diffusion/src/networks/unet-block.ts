/**
 * The residual block that both U-Nets are made of (Karras et al. 2022, appendix F.1): two 3×3 convolutions around the
 * noise/class embedding, optional resampling, optional self-attention.
 */

import * as torch from '@patch-diffusion/torch';
import { Module, type ModuleDict, type Tensor } from '@patch-diffusion/torch';
import { Conv2d, GroupNorm, Linear, linearTogether } from './layers.js';
import { headCount, type UNetBlockOptions } from './levels.js';

/** [N, in, H, W] and its own part of {@link modulations}, [N | 1, out or 2 · out], → [N, out, H·2 | H | H/2, …]. */
export class UNetBlock extends Module {
  readonly numHeads: number;
  /** The layer that makes the modulation of an embedding: called for all blocks together, by {@link modulations}. */
  readonly affine: Linear;
  readonly #dropout: number;
  readonly #skipScale: number;
  readonly #adaptiveScale: boolean;
  readonly #norm0: GroupNorm;
  readonly #conv0: Conv2d;
  readonly #norm1: GroupNorm;
  readonly #conv1: Conv2d;
  readonly #skip: Conv2d | null;
  readonly #attention: { norm: GroupNorm; qkv: Conv2d; proj: Conv2d } | null;

  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    embChannels: number,
    options: UNetBlockOptions = {},
  ) {
    super();
    const { up = false, down = false, resampleFilter = [1, 1], resampleProj = false } = options;
    const { dropout = 0, skipScale = 1, eps = 1e-5, adaptiveScale = true } = options;
    const { init = {}, initZero = { weight: 0 }, initAttn = null } = options;
    this.numHeads = headCount(outChannels, options);
    this.#dropout = dropout;
    this.#skipScale = skipScale;
    this.#adaptiveScale = adaptiveScale;

    const resample = { up, down, resampleFilter };
    this.#norm0 = this.addModule('norm0', new GroupNorm(inChannels, eps));
    this.#conv0 = this.addModule('conv0', new Conv2d(inChannels, outChannels, 3, { ...resample, init }));
    const affineChannels = outChannels * (adaptiveScale ? 2 : 1);
    this.affine = this.addModule('affine', new Linear(embChannels, affineChannels, { init }));
    this.#norm1 = this.addModule('norm1', new GroupNorm(outChannels, eps));
    this.#conv1 = this.addModule('conv1', new Conv2d(outChannels, outChannels, 3, { init: initZero }));

    const needsSkip = outChannels !== inChannels || up || down;
    const skipKernel = resampleProj || outChannels !== inChannels ? 1 : 0;
    this.#skip = needsSkip
      ? this.addModule('skip', new Conv2d(inChannels, outChannels, skipKernel, { ...resample, init }))
      : null;

    this.#attention = this.numHeads
      ? {
          norm: this.addModule('norm2', new GroupNorm(outChannels, eps)),
          qkv: this.addModule('qkv', new Conv2d(outChannels, outChannels * 3, 1, { init: initAttn ?? init })),
          proj: this.addModule('proj', new Conv2d(outChannels, outChannels, 1, { init: initZero })),
        }
      : null;
  }

  forward(x: Tensor, modulation: Tensor): Tensor {
    // The scope drops activations that neither the result nor the autograd graph needs.
    return torch.scope(() => {
      let h = this.#conv0.forward(this.#norm0.forward(x, { silu: true })); // [N, out, h, w], resampled
      h = this.#modulate(h, modulation); // [N, out, h, w]
      if (this.training && this.#dropout > 0) h = torch.sharedDrawDropout(h, this.#dropout);
      h = this.#conv1.forward(h);
      h = this.#residual(h, this.#skip ? this.#skip.forward(x) : x); // [N, out, h, w]
      return this.#attention ? this.#attend(h) : h;
    });
  }

  /** Brings in the noise level and class: norm1 with a shift, or with scale and shift. */
  #modulate(h: Tensor, modulation: Tensor): Tensor {
    if (!this.#adaptiveScale) return this.#norm1.forward(h, { add: modulation, silu: true });
    const [scale, shift] = modulation.chunk(2, 1); // each [N | 1, out]
    return this.#norm1.forward(h, { scale, shift, silu: true });
  }

  #residual(a: Tensor, b: Tensor): Tensor {
    const sum = a.add(b);
    return this.#skipScale === 1 ? sum : sum.mul(this.#skipScale);
  }

  #attend(h: Tensor): Tensor {
    const { norm, qkv, proj } = this.#attention!;
    const [N, C, H, W] = h.shape;
    const channels = C / this.numHeads;
    // Channels of qkv are ordered head-major, then channel in head, then q/k/v fastest.
    const u = qkv.forward(norm.forward(h)).reshape([N, this.numHeads, channels, 3, H * W]);
    const [q, k, v] = u.unbind(3); // each [N, heads, C / heads, H·W]
    const a = attention(q, k, v).reshape([N, C, H, W]);
    return this.#residual(proj.forward(a), h);
  }
}

export type Modulations = ReadonlyMap<UNetBlock, Tensor>;

/** The blocks among the layers of a network's parts. */
export function blocksOf(...parts: readonly ModuleDict[]): UNetBlock[] {
  return parts.flatMap((part) =>
    [...part].flatMap(([, layer]) => (layer instanceof UNetBlock ? [layer] : [])),
  );
}

/**
 * What each block makes of the embedding [N | 1, E]: [N | 1, out or 2 · out]. One matrix product for all blocks: each alone is
 * so small that calling it costs more than computing it.
 */
export function modulations(blocks: readonly UNetBlock[], embedding: Tensor): Modulations {
  const layers = blocks.map(({ affine }) => affine);
  const all = linearTogether(layers, embedding);
  return new Map(blocks.map((block, i) => [block, all[i]]));
}

/**
 * Softmax attention over the last axis of q, k, v [N, heads, c, L]: [N, heads, c, L]. libtorch's fused kernels choose how
 * exact the scores are; without them (libtorch 1.x) the scores are float32.
 */
function attention(q: Tensor, k: Tensor, v: Tensor): Tensor {
  if (torch.hasOp('scaled_dot_product_attention')) {
    // The fused kernels never hold the L × L scores; they want the channels of a head side by side.
    const [qt, kt, vt] = [q, k, v].map((t) => t.transpose(2, 3).contiguous()); // [N, heads, L, c]
    return torch.scaledDotProductAttention(qt, kt, vt).transpose(2, 3);
  }
  const c = q.shape[2];
  const scores = torch.matmul(
    q.transpose(2, 3).to({ dtype: 'float32' }),
    k.div(Math.sqrt(c)).to({ dtype: 'float32' }),
  ); // [N, heads, L, L]
  const weights = scores.softmax(-1).to({ dtype: q.dtype });
  return torch.matmul(v, weights.transpose(2, 3));
}
