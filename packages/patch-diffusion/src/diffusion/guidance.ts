/**
 * Classifier-free guidance (Ho & Salimans 2022) on denoised images: u + g·(c − u), where u saw no class label.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { Denoiser, DenoiserInputs } from './preconditioning.js';

/**
 * One guided estimate. The unconditional and the conditional half run as one batch of 2N.
 * @param x noisy images, [N, C, H, W]
 * @param scale g; null or 1 is a plain conditional estimate
 * @returns the estimate in x's dtype, [N, C, H, W]
 */
export function guidedDenoise(
  denoiser: Denoiser,
  x: Tensor,
  sigma: number,
  inputs: DenoiserInputs,
  scale: number | null,
): Tensor {
  const { classLabels } = inputs;
  if (scale === null || scale === 1 || !classLabels) {
    return denoiser.forward(x, sigma, inputs).to({ dtype: x.dtype });
  }
  return torch.scope(() => {
    const N = x.shape[0];
    const labels = classLabels.expand([N, -1]);
    const positions = inputs.positions?.expand([N, -1, -1, -1]);
    const double = {
      ...inputs,
      classLabels: torch.cat([torch.zerosLike(labels), labels]),
      positions: positions && torch.cat([positions, positions]),
    };
    const both = denoiser.forward(torch.cat([x, x]), sigma, double).to({ dtype: x.dtype });
    const [u, c] = both.chunk(2);
    return u.add(c.sub(u), { alpha: scale });
  });
}
