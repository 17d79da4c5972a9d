/**
 * Preconditioners: they wrap a raw network F into a denoiser D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise) (Karras et al.
 * 2022, equation 7 and table 1; Patch Diffusion, section 3). Patch-EDM is EDM whose network also sees the coordinate
 * channels.
 * Shapes: N batch, C data channels, H W image or patch, K classes.
 */

import * as torch from '@patch-diffusion/torch';
import { type DType, Module, type Tensor } from '@patch-diffusion/torch';
import { createNetwork } from '../networks/index.js';
import type { Conditioning, UNet } from '../networks/unet.js';
import type { Extent } from '../patches/extent.js';
import {
  DEFAULT_SIGMA_DATA,
  IDDPM,
  iddpmAlphaBar,
  iddpmSigmas,
  nearestLevel,
  VE,
  VP,
  vpSigma,
  vpSigmaInverse,
} from './noise-levels.js';
import type { PrecondSpec } from './precond-spec.js';

/** Inputs of a denoiser besides the noisy image and its noise level. */
export interface DenoiserInputs extends Conditioning {
  /** Coordinate channels (x, y) in [−1, 1], [N | 1, 2, H, W]; networks that were built without them ignore them. */
  readonly positions?: Tensor | null;
}

/** Factors of the preconditioning, float32 [N | 1, 1, 1, 1]. */
interface Coefficients {
  readonly cSkip: Tensor | 1;
  readonly cOut: Tensor;
  readonly cIn: Tensor | 1;
  readonly cNoise: Tensor;
}

/** A denoiser D(x; σ): estimates the clean image behind x = y + n, n ~ N(0, σ²I). */
export abstract class Denoiser extends Module {
  /** Smallest and largest noise level that the denoiser handles; samplers clip to them. */
  abstract readonly sigmaMin: number;
  abstract readonly sigmaMax: number;
  readonly model: UNet;
  /**
   * Precision of the network's activations. Weights, noise and class embeddings, and everything outside of the network
   * stay float32: D is float32 whatever stands here.
   */
  computeDtype: Extract<DType, 'float32' | 'float16' | 'bfloat16'> = 'float32';

  constructor(readonly spec: PrecondSpec) {
    super();
    this.model = this.addModule('model', createNetwork(spec.network));
  }

  /** Side of the training images in pixels. */
  get imgResolution(): number {
    return this.spec.network.imgResolution;
  }

  /** Extent of the training images; coordinates are scaled by it. */
  get imageExtent(): Extent {
    const side = this.imgResolution;
    return this.spec.image ?? { height: side, width: side };
  }

  /** Channels of the images, without coordinates. */
  get dataChannels(): number {
    return this.spec.type === 'iddpm' ? this.spec.network.outChannels / 2 : this.spec.network.outChannels;
  }

  /** Whether the network was built with coordinate channels. */
  get hasPositions(): boolean {
    return this.spec.network.inChannels > this.dataChannels;
  }

  get labelDim(): number {
    return this.spec.network.labelDim ?? 0;
  }

  /** The nearest noise level that the denoiser was trained on; most were trained on all. */
  roundSigma(sigma: number): number {
    return sigma;
  }

  protected abstract coefficients(sigma: Tensor): Coefficients;

  /**
   * @param x noisy images, [N, C, H, W]
   * @param sigma noise levels, scalar or [N]-like, positive
   * @returns the denoised estimate, float32 [N, C, H, W]
   */
  forward(x: Tensor, sigma: Tensor | number, inputs: DenoiserInputs = {}): Tensor {
    return torch.scope(() => {
      const x32 = x.to({ dtype: 'float32' });
      const s = asSigma(sigma, x.device);
      const { cSkip, cOut, cIn, cNoise } = this.coefficients(s);
      const scaled = cIn === 1 ? x32 : x32.mul(cIn);
      const positions = this.hasPositions ? inputs.positions : null;
      // Pixels and coordinates are cast together.
      const x0 = withPositions(scaled, positions).to({ dtype: this.computeDtype });
      const f = this.model.forward(x0, cNoise.flatten(), {
        ...inputs,
        classLabels: this.#labels(inputs.classLabels, x.device),
      });
      const F = f.shape[1] === this.dataChannels ? f : f.narrow(1, 0, this.dataChannels);
      const skip = cSkip === 1 ? x32 : x32.mul(cSkip);
      return torch.addcmul(skip, F.to({ dtype: 'float32' }), cOut);
    });
  }

  /** None for an unconditional network; all zeros ("no class") where labels are not given. */
  #labels(labels: Tensor | null | undefined, device: string): Tensor | null {
    if (!this.labelDim) return null;
    if (!labels) return torch.zeros([1, this.labelDim], { device });
    return labels.to({ dtype: 'float32' }).reshape([-1, this.labelDim]);
  }
}

/** σ as float32 [N | 1, 1, 1, 1]. */
function asSigma(sigma: Tensor | number, device: string): Tensor {
  if (typeof sigma === 'number') return torch.full([1, 1, 1, 1], sigma, { dtype: 'float32', device });
  return sigma.to({ dtype: 'float32' }).reshape([-1, 1, 1, 1]);
}

/** Appends the coordinate channels, unscaled: [N, C, H, W] → [N, C + 2, H, W]. */
function withPositions(x: Tensor, positions: Tensor | null | undefined): Tensor {
  if (!positions) return x;
  const [N, , H, W] = x.shape;
  return torch.cat([x, positions.to({ dtype: x.dtype }).expand([N, -1, H, W])], 1);
}

/** EDM and, with coordinate channels, Patch-EDM (Karras et al. 2022, equation 7). */
class EdmDenoiser extends Denoiser {
  readonly sigmaMin: number;
  readonly sigmaMax: number;
  readonly sigmaData: number;

  constructor(spec: Extract<PrecondSpec, { type: 'edm' | 'pedm' }>) {
    super(spec);
    this.sigmaMin = spec.sigmaMin ?? 0;
    this.sigmaMax = spec.sigmaMax ?? Number.POSITIVE_INFINITY;
    this.sigmaData = spec.sigmaData ?? DEFAULT_SIGMA_DATA;
  }

  protected coefficients(sigma: Tensor): Coefficients {
    const variance = this.sigmaData ** 2;
    const total = sigma.square().add(variance);
    const norm = total.sqrt();
    return {
      cSkip: total.reciprocal().mul(variance),
      cOut: sigma.mul(this.sigmaData).div(norm),
      cIn: norm.reciprocal(),
      cNoise: sigma.log().div(4),
    };
  }
}

/** Variance preserving (Song et al. 2021; Karras et al. 2022, table 1). */
export class VpDenoiser extends Denoiser {
  readonly sigmaMin: number;
  readonly sigmaMax: number;
  readonly betaD: number;
  readonly betaMin: number;
  readonly #steps: number;

  constructor(spec: Extract<PrecondSpec, { type: 'vp' }>) {
    super(spec);
    this.betaD = spec.betaD ?? VP.betaD;
    this.betaMin = spec.betaMin ?? VP.betaMin;
    this.#steps = spec.M ?? VP.M;
    // Evaluated in float32, as the reference does: the smallest level comes out as 2⁻¹⁰, which checkpoints rely on.
    this.sigmaMin = vpSigmaFloat32(this.betaD, this.betaMin, spec.epsilonT ?? VP.epsilonT);
    this.sigmaMax = vpSigmaFloat32(this.betaD, this.betaMin, 1);
  }

  /** σ(t) for t in [0, 1]. */
  sigma(t: number): number {
    return vpSigma(this.betaD, this.betaMin)(t);
  }

  /** The inverse of {@link sigma}. */
  sigmaInverse(sigma: number): number {
    return vpSigmaInverse(this.betaD, this.betaMin)(sigma);
  }

  protected coefficients(sigma: Tensor): Coefficients {
    const { betaD, betaMin } = this;
    const t = sigma
      .square()
      .add(1)
      .log()
      .mul(2 * betaD)
      .add(betaMin ** 2)
      .sqrt()
      .sub(betaMin)
      .div(betaD);
    return {
      cSkip: 1,
      cOut: sigma.neg(),
      cIn: sigma.square().add(1).rsqrt(),
      cNoise: t.mul(this.#steps - 1),
    };
  }
}

function vpSigmaFloat32(betaD: number, betaMin: number, t: number): number {
  return torch.scope(() => {
    const time = torch.tensor(Float32Array.of(t));
    return time
      .square()
      .mul(0.5 * betaD)
      .add(time.mul(betaMin))
      .exp()
      .sub(1)
      .sqrt()
      .item();
  });
}

/** Variance exploding (Song et al. 2021; Karras et al. 2022, table 1). */
class VeDenoiser extends Denoiser {
  readonly sigmaMin: number;
  readonly sigmaMax: number;

  constructor(spec: Extract<PrecondSpec, { type: 've' }>) {
    super(spec);
    this.sigmaMin = spec.sigmaMin ?? VE.sigmaMin;
    this.sigmaMax = spec.sigmaMax ?? VE.sigmaMax;
  }

  protected coefficients(sigma: Tensor): Coefficients {
    return { cSkip: 1, cOut: sigma, cIn: 1, cNoise: sigma.mul(0.5).log() };
  }
}

/** Improved DDPM (Nichol & Dhariwal 2021; Karras et al. 2022, table 1): discrete noise levels from a table. */
export class IddpmDenoiser extends Denoiser {
  /** The noise levels, [M + 1], descending to 0; stored with the weights. */
  readonly u: Tensor;
  readonly #C2: number;
  readonly #steps: number;

  constructor(spec: Extract<PrecondSpec, { type: 'iddpm' }>) {
    super(spec);
    this.#steps = spec.M ?? IDDPM.M;
    this.#C2 = spec.C2 ?? IDDPM.C2;
    const table = iddpmSigmas(this.#steps, spec.C1 ?? IDDPM.C1, this.#C2, Math.fround);
    this.u = this.addBuffer('u', torch.tensor(Float32Array.from(table)));
  }

  // Read from the table, which a checkpoint brings along: the recurrence does not give the same digits everywhere.
  get sigmaMin(): number {
    return this.#level(this.#steps - 1);
  }

  get sigmaMax(): number {
    return this.#level(0);
  }

  #level(index: number): number {
    return torch.scope(() => this.u.select(0, index).item());
  }

  /** ᾱ of step j, 0 … M. */
  alphaBar(j: number): number {
    return iddpmAlphaBar(j, this.#steps, this.#C2);
  }

  /** Index of the noise level nearest to σ. */
  nearestIndex(sigma: number): number {
    return nearestLevel(this.u.toFloat32Array(), sigma);
  }

  override roundSigma(sigma: number): number {
    const levels = this.u.toFloat32Array();
    return levels[nearestLevel(levels, sigma)];
  }

  /** {@link nearestLevel} of a batch. */
  #nearest(sigma: Tensor): Tensor {
    const s = sigma.reshape([-1, 1]);
    const squares = s.mul(-2).mul(this.u).add(s.square()).add(this.u.square()); // [N, M + 1]
    return squares.clampMin(0).argmin(1);
  }

  protected coefficients(sigma: Tensor): Coefficients {
    return {
      cSkip: 1,
      cOut: sigma.neg(),
      cIn: sigma.square().add(1).rsqrt(),
      cNoise: this.#nearest(sigma)
        .neg()
        .add(this.#steps - 1)
        .to({ dtype: 'float32' }),
    };
  }
}

/**
 * Builds a freshly initialised denoiser from its description.
 * @example
 * ```ts
 * const denoiser = createDenoiser({
 *   type: 'pedm',
 *   network: { type: 'SongUNet', imgResolution: 32, inChannels: 5, outChannels: 3, modelChannels: 16 },
 * });
 * ```
 */
export function createDenoiser(spec: PrecondSpec): Denoiser {
  switch (spec.type) {
    case 'vp':
      return new VpDenoiser(spec);
    case 've':
      return new VeDenoiser(spec);
    case 'iddpm':
      return new IddpmDenoiser(spec);
    case 'edm':
    case 'pedm':
      return new EdmDenoiser(spec);
  }
}
