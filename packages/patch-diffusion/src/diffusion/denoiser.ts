/**
 * What all denoisers have in common: D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise) of a raw network F (Karras et al.
 * 2022, equation 7). The coefficients of each kind are in preconditioning.ts.
 * Shapes: N batch, C data channels, H W image or patch, K classes.
 */

import * as torch from '@patch-diffusion/torch';
import { type DType, Module, type Tensor } from '@patch-diffusion/torch';
import { createNetwork, type NetworkSpec } from '../networks/index.js';
import type { Conditioning, UNet } from '../networks/unet.js';
import type { Extent } from '../patches/extent.js';

/** Inputs of a denoiser besides the noisy image and its noise level. */
export interface DenoiserInputs extends Conditioning {
  /** Coordinate channels (x, y) in [−1, 1], [N | 1, 2, H, W]; networks that were built without them ignore them. */
  readonly positions?: Tensor | null;
}

/** The constants of a preconditioner by its name; those left out are the usual ones (noise-levels.ts). */
type PrecondConstants =
  | {
      readonly type: 'vp';
      readonly betaD?: number;
      readonly betaMin?: number;
      readonly M?: number;
      readonly epsilonT?: number;
    }
  | { readonly type: 've'; readonly sigmaMin?: number; readonly sigmaMax?: number }
  | { readonly type: 'iddpm'; readonly C1?: number; readonly C2?: number; readonly M?: number }
  | {
      readonly type: 'edm' | 'pedm';
      readonly sigmaMin?: number;
      readonly sigmaMax?: number | null;
      readonly sigmaData?: number;
    };

/** A preconditioner with its network; plain JSON, embedded in every snapshot. */
export type PrecondSpec = PrecondConstants & {
  readonly network: NetworkSpec;
  /** Extent of the training images where it is not imgResolution². */
  readonly image?: Extent;
};

/** Factors of the preconditioning, float32 [N | 1, 1, 1, 1]. */
export interface Coefficients {
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
export function asSigma(sigma: Tensor | number, device: string): Tensor {
  if (typeof sigma === 'number') return torch.full([1, 1, 1, 1], sigma, { dtype: 'float32', device });
  return sigma.to({ dtype: 'float32' }).reshape([-1, 1, 1, 1]);
}

/** Appends the coordinate channels, unscaled: [N, C, H, W] → [N, C + 2, H, W]. */
function withPositions(x: Tensor, positions: Tensor | null | undefined): Tensor {
  if (!positions) return x;
  const [N, , H, W] = x.shape;
  return torch.cat([x, positions.to({ dtype: x.dtype }).expand([N, -1, H, W])], 1);
}
