/**
 * The building blocks of the EDM U-Nets (Karras et al. 2022, appendix F; parameter names as in the official
 * checkpoints). Parameters are float32 masters that each layer casts to its input's dtype.
 * Shapes in comments: N batch, C channels, H W feature map, E embedding.
 */

import * as torch from '@patch-diffusion/torch';
import { type GroupNormActOptions, Module, type Tensor } from '@patch-diffusion/torch';
import { drawParameter, type Init } from './init.js';
import { type Conv2dOptions, type GroupOptions, groupCount } from './levels.js';

/** A parameter in the dtype of the activation that it meets. */
function castTo(parameter: Tensor, x: Tensor): Tensor {
  return parameter.dtype === x.dtype ? parameter : parameter.to({ dtype: x.dtype });
}

/** Fully connected layer: [N, in] → [N, out]. */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true, init = {} }: { bias?: boolean; init?: Init } = {},
  ) {
    super();
    const mode = init.mode ?? 'kaiming_normal';
    const draw = (shape: number[], gain: number) => drawParameter(shape, mode, inFeatures, outFeatures, gain);
    this.weight = this.addParameter('weight', draw([outFeatures, inFeatures], init.weight ?? 1));
    this.bias = bias ? this.addParameter('bias', draw([outFeatures], init.bias ?? 0)) : null;
  }

  forward(x: Tensor): Tensor {
    return torch.linear(x, castTo(this.weight, x), this.bias && castTo(this.bias, x));
  }
}

/** Several layers with biases of the same input [N, in] in one matrix product: [N, out] of each. */
export function linearTogether(layers: readonly Linear[], x: Tensor): Tensor[] {
  const weight = torch.cat(layers.map((layer) => layer.weight)); // [all out, in]
  const bias = torch.cat(layers.map((layer) => layer.bias!)); // [all out]
  const y = torch.linear(x, castTo(weight, x), castTo(bias, x)); // [N, all out]
  const widths = layers.map(({ outFeatures }) => outFeatures);
  return y.split(widths, 1);
}

/** Convolution with optional resampling: [N, in, H, W] → [N, out, H·2 | H | H/2, …]. Kernel 0 resamples only. */
export class Conv2d extends Module {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly filter: Tensor | null;
  readonly #up: boolean;
  readonly #down: boolean;
  readonly #fused: boolean;
  readonly #isBox: boolean;
  readonly #weightPad: number;
  readonly #filterPad: number;

  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    kernel: number,
    options: Conv2dOptions = {},
  ) {
    super();
    const { bias = true, up = false, down = false, init = {} } = options;
    const { resampleFilter = [1, 1], fusedResample = false } = options;
    if (up && down) throw new Error('internal: a convolution cannot go up and down');
    const mode = init.mode ?? 'kaiming_normal';
    const draw = (shape: number[], gain: number) =>
      drawParameter(shape, mode, inChannels * kernel * kernel, outChannels * kernel * kernel, gain);
    this.weight = kernel
      ? this.addParameter('weight', draw([outChannels, inChannels, kernel, kernel], init.weight ?? 1))
      : null;
    this.bias = kernel && bias ? this.addParameter('bias', draw([outChannels], init.bias ?? 0)) : null;
    this.filter = up || down ? this.addBuffer('resample_filter', separableFilter(resampleFilter)) : null;
    this.#up = up;
    this.#down = down;
    this.#fused = fusedResample && kernel > 0;
    this.#isBox = resampleFilter.length === 2 && resampleFilter[0] === resampleFilter[1];
    this.#weightPad = Math.floor(kernel / 2);
    this.#filterPad = this.filter ? Math.floor((resampleFilter.length - 1) / 2) : 0;
  }

  forward(x: Tensor): Tensor {
    const weight = this.weight && castTo(this.weight, x);
    const bias = this.bias && castTo(this.bias, x);
    if (weight && this.#fused && this.#up) {
      const raised = this.#upsample(x, Math.max(this.#filterPad - this.#weightPad, 0)); // [N, in, 2H, 2W]
      return torch.conv2d(raised, weight, bias, 1, Math.max(this.#weightPad - this.#filterPad, 0));
    }
    if (weight && this.#fused && this.#down) {
      // The bias commutes with the filter, whose taps sum to 1, only without padding: it is added last.
      const wide = torch.conv2d(x, weight, null, 1, this.#weightPad + this.#filterPad);
      const y = this.#downsample(wide, 0); // [N, out, H/2, W/2]
      return bias ? y.add(bias.reshape([1, -1, 1, 1])) : y;
    }
    if (this.#up) x = this.#upsample(x, this.#filterPad); // [N, in, 2H, 2W]
    if (this.#down) x = this.#downsample(x, this.#filterPad); // [N, in, H/2, W/2]
    if (!weight) return x;
    return this.#weightPad === 0
      ? pointwise(x, weight, bias)
      : torch.conv2d(x, weight, bias, 1, this.#weightPad);
  }

  #upsample(x: Tensor, padding: number): Tensor {
    // A box filter without extra padding is nearest-neighbour doubling, which is many times faster.
    if (this.#isBox && padding === 0) return torch.upsampleNearest2d(x, [x.shape[2] * 2, x.shape[3] * 2]);
    const channels = x.shape[1];
    // On a CPU libtorch's transposed convolution is 10x slower in bfloat16, and in 1.13 its result has another shape.
    const wide = x.device === 'cpu' && x.dtype !== 'float64' ? x.to({ dtype: 'float32' }) : x;
    const filter = this.#depthwise(wide, channels).mul(4);
    return torch.convTranspose2d(wide, filter, null, 2, padding, 0, channels).to({ dtype: x.dtype });
  }

  #downsample(x: Tensor, padding: number): Tensor {
    if (this.#isBox && padding === 0) return torch.avgPool2d(x, 2);
    const channels = x.shape[1];
    return torch.conv2d(x, this.#depthwise(x, channels), null, 2, padding, 1, channels);
  }

  #depthwise(x: Tensor, channels: number): Tensor {
    return castTo(this.filter!, x).repeat([channels, 1, 1, 1]);
  }
}

/** 1×1 convolution. With channels side by side it is a matrix product, for which libtorch takes its quickest path. */
function pointwise(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  if (x.device !== 'cpu' || !x.isContiguous('channelsLast')) return torch.conv2d(x, weight, bias);
  const pixels = x.permute([0, 2, 3, 1]); // [N, H, W, in]
  return torch.linear(pixels, weight.reshape([weight.shape[0], -1]), bias).permute([0, 3, 1, 2]);
}

/** The 2-D filter f fᵀ / (Σf)² of 1-D taps f, as [1, 1, n, n]. */
function separableFilter(taps: readonly number[]): Tensor {
  const sum = taps.reduce((a, b) => a + b, 0);
  const values = taps.flatMap((a) => taps.map((b) => (a * b) / (sum * sum)));
  return torch.tensor(Float32Array.from(values), { shape: [1, 1, taps.length, taps.length] });
}

/** Group normalisation, by default over min(32, channels / 4) groups: [N, C, H, W] → the same. */
export class GroupNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly #groups: number;

  constructor(
    channels: number,
    readonly eps = 1e-5,
    options: GroupOptions = {},
  ) {
    super();
    this.#groups = groupCount(channels, options);
    this.weight = this.addParameter('weight', torch.ones([channels]));
    this.bias = this.addParameter('bias', torch.zeros([channels]));
  }

  /** @param options what is added before, scales and shifts after, and whether SiLU follows: in the same pass */
  forward(x: Tensor, options: Omit<GroupNormActOptions, 'eps'> = {}): Tensor {
    return torch.groupNormAct(x, this.#groups, this.weight, this.bias, { ...options, eps: this.eps });
  }
}

/** Sinusoidal embedding of noise levels: [N] → [N, channels], cosines first. */
export class PositionalEmbedding extends Module {
  constructor(
    readonly numChannels: number,
    readonly maxPositions = 10000,
    readonly endpoint = false,
  ) {
    super();
  }

  forward(t: Tensor): Tensor {
    const half = Math.floor(this.numChannels / 2);
    const exponent = torch
      .arange(half, { dtype: 'float32', device: t.device })
      .div(half - (this.endpoint ? 1 : 0));
    const frequencies = torch.pow(1 / this.maxPositions, exponent); // [C/2]
    const angles = torch.outer(t, frequencies.to({ dtype: t.dtype })); // [N, C/2]
    return torch.cat([angles.cos(), angles.sin()], 1);
  }
}

/** Random Fourier features of noise levels: [N] → [N, channels], cosines first. */
export class FourierEmbedding extends Module {
  readonly freqs: Tensor;

  constructor(numChannels: number, scale = 16) {
    super();
    this.freqs = this.addBuffer(
      'freqs',
      torch.scope(() => torch.randn([Math.floor(numChannels / 2)]).mul(scale)),
    );
  }

  forward(t: Tensor): Tensor {
    const frequencies = this.freqs.mul(2 * Math.PI).to({ dtype: t.dtype });
    const angles = torch.outer(t, frequencies); // [N, C/2]
    return torch.cat([angles.cos(), angles.sin()], 1);
  }
}

/** The `implicitMlp` front: three 1×1 convolutions with SiLU, then the usual 3×3; names are .0, .2, .4 and .6. */
export class PointwiseMlp extends Module {
  readonly #convs: Conv2d[];

  constructor(inChannels: number, channels: number, init: Init) {
    super();
    this.#convs = [1, 1, 1, 3].map((kernel, i) =>
      this.addModule(String(2 * i), new Conv2d(i ? channels : inChannels, channels, kernel, { init })),
    );
  }

  forward(x: Tensor): Tensor {
    const [first, ...rest] = this.#convs;
    return rest.reduce((h, conv) => conv.forward(h.silu()), first.forward(x));
  }
}
