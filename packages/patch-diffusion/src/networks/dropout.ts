/** Dropout, quicker than libtorch's own on a CPU, where random numbers are what it costs. */
import type { DType, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/** Probabilities on a CPU are multiples of 1 / STEPS. */
const STEPS = 2 ** 15;

/**
 * Sets each element to 0 with probability p and scales the others by 1 / (1 − p).
 *
 * @param x dense, in any memory order
 * @param p 0 ≤ p < 1
 */
export function dropout(x: Tensor, p: number): Tensor {
  if (x.device !== 'cpu') return torch.dropout(x, p, true);
  const dropped = Math.round(p * STEPS);
  const noise = torch.noGrad(() =>
    torch.scope(() =>
      randomInt16(x.numel)
        .asStrided(x.shape, x.strides)
        .ge(2 * dropped - STEPS)
        .to({ dtype: x.dtype })
        .mul_(STEPS / (STEPS - dropped)),
    ),
  );
  return x.mul(noise);
}

/**
 * At least `count` int16 numbers, four from each draw of 63 bits. Doubling puts the bit that is missing at the bottom,
 * where even thresholds do not see it: below 2k − 2¹⁵ lies a number with probability k / 2¹⁵.
 */
function randomInt16(count: number): Tensor {
  const draws = torch
    .empty([Math.ceil(count / 4)], { dtype: 'int64' })
    .random_()
    .mul_(2);
  return draws.view('int16' as DType);
}
