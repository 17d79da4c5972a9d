/**
 * Reference statistics for FID, as EDM publishes them and as numpy.savez writes them: `mu` [D] and `sigma` [D, D].
 */
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { readNpz } from '../formats/npz.js';
import type { FeatureStatistics } from './frechet.js';

/** @throws UserError if the file cannot be read or does not hold statistics */
export async function readReferenceStatistics(path: string): Promise<FeatureStatistics> {
  const arrays = await readNpz(path);
  const [mu, sigma] = [arrays.get('mu'), arrays.get('sigma')];
  const dim = mu?.data.length;
  if (mu?.shape.length !== 1 || sigma?.shape.length !== 2 || sigma.shape.some((n) => n !== dim)) {
    const found = [...arrays].map(([name, { shape }]) => `${name} [${shape.join(', ')}]`).join(', ');
    throw new UserError(
      'NPZ_NOT_STATISTICS',
      `${path} holds ${found || 'no arrays'}, not the statistics mu [D] and sigma [D, D]; give a file made for FID`,
    );
  }
  return {
    mean: torch.tensor(mu.data, { shape: mu.shape, dtype: 'float64' }),
    covariance: torch.tensor(sigma.data, { shape: sigma.shape, dtype: 'float64' }),
  };
}
