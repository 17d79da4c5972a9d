/**
 * The preconditioners (Karras et al. 2022, table 1; Patch Diffusion, section 3): their coefficients and ranges of noise
 * levels. Patch-EDM is EDM whose network also sees the coordinate channels.
 */

import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { asSigma, type Coefficients, Denoiser, type PrecondSpec } from './denoiser.js';
import {
  DEFAULT_SIGMA_DATA,
  IDDPM,
  iddpmAlphaBar,
  iddpmSigmas,
  VE,
  VP,
  vpSigma,
  vpSigmaInverse,
} from './noise-levels.js';

export { Denoiser, type DenoiserInputs, type PrecondSpec } from './denoiser.js';
export { DEFAULT_SIGMA_DATA } from './noise-levels.js';

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
    return torch.scope(() => this.#nearest(asSigma(sigma, this.u.device)).item());
  }

  override roundSigma(sigma: number): number {
    return torch.scope(() =>
      this.u.indexSelect(0, this.#nearest(asSigma(sigma, this.u.device)).flatten()).item(),
    );
  }

  /**
   * The distance is −2σu + σ² + u² in float32, as in the reference. Between two levels its rounding decides which one is
   * nearest, so another formula would not always choose the same.
   */
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
