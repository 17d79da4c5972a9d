/** Feature vectors with known distributions. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/** Standard normal rows, float64 [n, dim]. */
export function normalRows(n: number, dim: number, seed: number): Tensor {
  return torch.randn([n, dim], { generator: new torch.Generator('cpu', seed), dtype: 'float64' });
}
