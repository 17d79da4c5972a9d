/** {@link ArrayMath} on libtorch's tensors. */
import type { Tensor } from '@patch-diffusion/torch';
import type { ArrayMath } from './samplers/array-math.js';

export const tensorMath: ArrayMath<Tensor> = {
  combine(...terms) {
    const [[coefficient, first], ...rest] = terms;
    return rest.reduce(
      (sum, [c, x]) => sum.add(x, { alpha: c }),
      coefficient === 1 ? first : first.mul(coefficient),
    );
  },
};
