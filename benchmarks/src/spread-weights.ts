/** Weights for comparisons: a fresh network's output is almost zero whatever its body computes. */
import * as torch from '@patch-diffusion/torch';
import type { Denoiser } from 'patch-diffusion/method';

/** Adds noise to all weights. */
export function spreadWeights(denoiser: Denoiser): void {
  torch.noGrad(() =>
    torch.scope(() => {
      for (const parameter of denoiser.parameters())
        parameter.add_(torch.randn(parameter.shape, { device: parameter.device }), { alpha: 0.02 });
    }),
  );
}
