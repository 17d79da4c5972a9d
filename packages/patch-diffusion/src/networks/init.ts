/**
 * Weight initialisation of the EDM networks. Weights and biases of a layer use the same fans and mode, each times its
 * own gain; a gain of 0 still consumes random numbers, so a seed gives the same network as in the reference.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/** `zeros` is for layers whose weights are loaded next. */
export type InitMode = 'xavier_uniform' | 'xavier_normal' | 'kaiming_uniform' | 'kaiming_normal' | 'zeros';

/** How a layer's weight and bias are drawn: the mode and the gains that multiply the draws. */
export interface Init {
  readonly mode?: InitMode;
  /** Gain of the weight. Default 1. */
  readonly weight?: number;
  /** Gain of the bias. Default 0. */
  readonly bias?: number;
}

/** Draws one parameter of `shape` from libtorch's default generator and multiplies it by `gain`. */
export function drawParameter(
  shape: number[],
  mode: InitMode,
  fanIn: number,
  fanOut: number,
  gain: number,
): Tensor {
  return torch.noGrad(() => torch.scope(() => unscaled(shape, mode, fanIn, fanOut).mul(gain)));
}

function unscaled(shape: number[], mode: InitMode, fanIn: number, fanOut: number): Tensor {
  switch (mode) {
    case 'xavier_uniform':
      return torch
        .rand(shape)
        .mul(2)
        .sub(1)
        .mul(Math.sqrt(6 / (fanIn + fanOut)));
    case 'xavier_normal':
      return torch.randn(shape).mul(Math.sqrt(2 / (fanIn + fanOut)));
    case 'kaiming_uniform':
      return torch
        .rand(shape)
        .mul(2)
        .sub(1)
        .mul(Math.sqrt(3 / fanIn));
    case 'kaiming_normal':
      return torch.randn(shape).mul(Math.sqrt(1 / fanIn));
    case 'zeros':
      return torch.zeros(shape);
  }
}
