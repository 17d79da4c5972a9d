/**
 * Guidance on denoised images: D_ref + g·(D − D_ref). The reference is the same network without the class label
 * (classifier-free, Ho & Salimans 2022) or a worse version of it, smaller or less trained (autoguidance, Karras et al.
 * 2024, arXiv 2406.02507). It may be limited to an interval of noise levels (Kynkäänniemi et al. 2024, arXiv 2404.07724).
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type GuidanceRule, guide as guided, isGuided } from './guidance-rule.js';
import type { Denoiser, DenoiserInputs } from './preconditioning.js';
import { tensorMath } from './tensor-math.js';

export interface Guidance extends GuidanceRule {
  /** The worse network of autoguidance; without one, guidance is classifier-free. */
  readonly guide?: Denoiser | null;
}

/**
 * One guided estimate. Without a guide, the unconditional and the conditional half run as one batch of 2N; an
 * unconditional network then has nothing to be guided by.
 * @param x noisy images, [N, C, H, W]
 * @returns the estimate in x's dtype, [N, C, H, W]
 * @example
 * ```ts
 * const { denoiser } = await loadSnapshot(await newestSnapshot('runs/00000-photos') ?? '');
 * const noisy = torch.randn([2, 3, 16, 16]).mul(5);
 * const inputs = { positions: windowPositions({ height: 16, width: 16 }, denoiser.imageExtent) };
 * const clean = guidedDenoise(denoiser, noisy, 5, inputs, { scale: 1.5, guide: denoiser }); // [2, 3, 16, 16]
 * denoiser.dispose();
 * ```
 */
export function guidedDenoise(
  denoiser: Denoiser,
  x: Tensor,
  sigma: number,
  inputs: DenoiserInputs,
  guidance: Guidance | null,
): Tensor {
  return torch.scope(() => {
    const estimate = (network: Denoiser) => network.forward(x, sigma, inputs).to({ dtype: x.dtype });
    if (!guidance || !isGuided(guidance, sigma)) return estimate(denoiser);
    const { scale, guide } = guidance;
    if (guide) return guided(tensorMath, estimate(guide), estimate(denoiser), scale);
    if (!inputs.classLabels) return estimate(denoiser);
    const both = denoiser.forward(torch.cat([x, x]), sigma, twice(inputs, x.shape[0])).to({ dtype: x.dtype });
    const [unconditional, conditional] = both.chunk(2);
    return guided(tensorMath, unconditional, conditional, scale);
  });
}

/** Inputs of a batch that holds every sample twice, without and with its label. */
function twice(inputs: DenoiserInputs, count: number): DenoiserInputs {
  const labels = inputs.classLabels!.expand([count, -1]);
  const { positions } = inputs;
  const isShared = !positions || positions.shape[0] === 1;
  return {
    ...inputs,
    classLabels: torch.cat([torch.zerosLike(labels), labels]),
    positions: isShared ? positions : torch.cat([positions, positions]),
  };
}
