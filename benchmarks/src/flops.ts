/**
 * Arithmetic of a training step, counted from the shapes that its layers see: 2 operations per multiply-add of every
 * convolution, linear layer and attention product; the backward pass takes twice the forward pass's.
 */

import type { Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { Conv2d, type Denoiser, Linear } from 'patch-diffusion/method';

/** GFLOP of one image's forward and backward pass at a patch side. */
export function stepGflopPerImage(
  denoiser: Denoiser,
  patch: { height: number; width: number },
  device: string,
): number {
  let flops = 0;
  const restore: (() => void)[] = [];
  for (const [name, module] of denoiser.namedModules()) {
    if (!(module instanceof Conv2d || module instanceof Linear)) continue;
    watch(module, restore, (y) => {
      flops += 2 * y.numel * fanIn(module);
      if (name.endsWith('.qkv')) {
        // Scores and weighted sum: L² · C each, of 3C channels.
        const [N, C3, H, W] = y.shape as [number, number, number, number];
        flops += 2 * 2 * N * (C3 / 3) * (H * W) ** 2;
      }
    });
  }
  try {
    torch.noGrad(() =>
      torch.scope(() => {
        const { height, width } = patch;
        const x = torch.zeros([1, denoiser.dataChannels, height, width], { device });
        const positions = torch.zeros([1, 2, height, width], { device });
        denoiser.forward(x, 1, denoiser.hasPositions ? { positions } : {});
      }),
    );
  } finally {
    for (const undo of restore) undo();
  }
  return (3 * flops) / 1e9;
}

function fanIn(layer: Conv2d | Linear): number {
  if (layer.weight === null) return 0;
  return layer.weight.numel / layer.weight.shape[0];
}

/** Puts a listener on one instance's `forward`. */
function watch(
  module: Module & { forward(x: Tensor): Tensor },
  restore: (() => void)[],
  see: (y: Tensor) => void,
): void {
  const forward = module.forward;
  module.forward = function (this: typeof module, x: Tensor): Tensor {
    const y = forward.call(this, x);
    see(y);
    return y;
  };
  restore.push(() => {
    module.forward = forward;
  });
}
