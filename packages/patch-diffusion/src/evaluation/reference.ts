/**
 * Reference statistics for FID, as EDM publishes them and as numpy.savez writes them: `mu` [D] and `sigma` [D, D].
 * Ours have the number of images `n` and the checksum of the feature network, `features`, beside them.
 */
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { readNpz, writeNpz } from '../formats/npz.js';
import type { FeatureRecord } from './features/detector.js';
import type { FeatureStatistics } from './frechet.js';

/** Statistics in a file. */
export interface Reference extends FeatureStatistics {
  /** SHA-256 of the feature network; null where the file does not say. */
  readonly sha256: string | null;
}

/** @throws UserError if the file cannot be read or does not hold statistics */
export async function readReferenceStatistics(path: string): Promise<Reference> {
  const arrays = await readNpz(path, ['mu', 'sigma', 'features']);
  const [mu, sigma] = [arrays.get('mu'), arrays.get('sigma')];
  const dim = mu?.data.length;
  if (mu?.shape.length !== 1 || sigma?.shape.length !== 2 || sigma.shape.some((n) => n !== dim)) {
    const found = [...(await readNpz(path))]
      .map(([name, { shape }]) => `${name} [${shape.join(', ')}]`)
      .join(', ');
    throw new UserError(
      'NPZ_NOT_STATISTICS',
      `${path} holds ${found || 'no arrays'}, not the statistics mu [D] and sigma [D, D]; give a file made for FID`,
    );
  }
  if (!mu.data.every(Number.isFinite) || !sigma.data.every(Number.isFinite)) {
    throw new UserError(
      'NPZ_NOT_STATISTICS',
      `${path} has NaN or infinite values; make or download it again`,
    );
  }
  const features = arrays.get('features');
  return {
    mean: torch.tensor(mu.data, { shape: mu.shape, dtype: 'float64' }),
    covariance: torch.tensor(sigma.data, { shape: sigma.shape, dtype: 'float64' }),
    sha256: features ? Buffer.from(Uint8Array.from(features.data)).toString('hex') : null,
  };
}

/** Writes statistics; the file appears whole or not at all. */
export async function writeReference(
  path: string,
  { mean, covariance }: FeatureStatistics,
  count: number,
  { sha256 }: FeatureRecord,
): Promise<void> {
  await guarded(`write ${path}`, () =>
    writeNpz(path, {
      mu: { shape: mean.shape, data: mean.toTypedArray() as Float64Array },
      sigma: { shape: covariance.shape, data: covariance.toTypedArray() as Float64Array },
      n: { shape: [], data: Float64Array.of(count) },
      features: { shape: [32], data: Uint8Array.from(Buffer.from(sha256, 'hex')) },
    }),
  );
}

/**
 * Reads statistics to compare features of a kind with.
 * @throws UserError where they are of other features
 */
export async function readReference(
  path: string,
  { dim, kind, sha256 }: FeatureRecord,
): Promise<FeatureStatistics> {
  const statistics = await readReferenceStatistics(path);
  const found = statistics.mean.numel;
  const name = kind === 'classes' ? 'classifier' : kind;
  if (found !== dim) {
    throw otherFeatures(
      `--reference ${path} has statistics of ${found} features, and --features ${name} gives ${dim}`,
    );
  }
  // Weights of Inception come in several files, and published statistics do not name theirs.
  if (kind === 'classes' && statistics.sha256 !== sha256) {
    throw otherFeatures(
      `--reference ${path} was made with another classifier, which knows other images or classes`,
    );
  }
  return statistics;
}

function otherFeatures(problem: string): UserError {
  return new UserError('OTHER_FEATURES', `${problem}; make it with the same features (stats)`);
}
