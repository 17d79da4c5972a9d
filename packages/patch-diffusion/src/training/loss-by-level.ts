/** Losses of a batch and the bins of its noise levels: sums by bin, and factors by bin. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { LEVEL_BINS } from './noise-histogram.js';

/** Sums of mean losses and numbers of patches by level, float32 [2 · bins]. @param losses [N, C, P, P], `sigma` [N, 1, 1, 1] */
export function lossesByLevel(losses: Tensor, sigma: Tensor): Tensor {
  const bin = binOf(sigma);
  const zeros = () => torch.zeros([LEVEL_BINS.count], { device: losses.device });
  const means = losses.mean([1, 2, 3]);
  return torch.cat([zeros().indexAdd(0, bin, means), zeros().indexAdd(0, bin, torch.onesLike(means))]);
}

/** The factors of noise levels, [N, 1, 1, 1]. @param factors by bin */
export function factorsAt(factors: Float32Array, sigma: Tensor): Tensor {
  return torch.tensor(factors, { device: sigma.device }).indexSelect(0, binOf(sigma)).reshape(sigma.shape);
}

/** Bins of noise levels, int64 [N]. */
function binOf(sigma: Tensor): Tensor {
  const { count, min, max } = LEVEL_BINS;
  return sigma
    .flatten()
    .log()
    .sub(min)
    .mul(count / (max - min))
    .floor()
    .clamp(0, count - 1)
    .to({ dtype: 'int64' });
}
