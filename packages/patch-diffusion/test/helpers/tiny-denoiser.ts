/** Small networks with random weights, for tests that need some denoiser. */
import * as torch from '@patch-diffusion/torch';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser, type Denoiser } from '../../src/diffusion/preconditioning.js';

/** @param labelDim classes; 0 is unconditional */
export function tinyDenoiser(
  seed: number,
  labelDim = 0,
  type: PrecondSpec['type'] & ('pedm' | 'edm') = 'pedm',
): Denoiser {
  return randomDenoiser(seed, {
    type,
    network: {
      type: 'SongUNet',
      imgResolution: 8,
      inChannels: type === 'pedm' ? 5 : 3,
      outChannels: 3,
      labelDim,
      modelChannels: 8,
      channelMult: [1, 2],
      numBlocks: 1,
      attnResolutions: [4],
    },
  });
}

/** A denoiser whose weights are large enough to matter. */
export function randomDenoiser(seed: number, spec: PrecondSpec): Denoiser {
  const denoiser = createDenoiser(spec);
  // Networks start with zeroed output layers, which would make every test one of c_skip only.
  const generator = new torch.Generator('cpu', seed);
  torch.noGrad(() =>
    torch.scope(() => {
      for (const parameter of denoiser.parameters()) {
        const fanIn = parameter.shape.slice(1).reduce((product, n) => product * n, 1);
        parameter.copy_(torch.randn(parameter.shape, { generator }).mul(1 / Math.sqrt(fanIn)));
      }
    }),
  );
  return denoiser.requiresGrad(false).eval();
}
