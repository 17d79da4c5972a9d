/**
 * Fréchet distance of two normal distributions, the FID of image features (Heusel et al. 2017):
 * d² = ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½). Everything in float64.
 * The trace of the root is taken from the eigenvalues of FᵀΣ₁F with FFᵀ = Σ₂, which is symmetric and has those of Σ₁Σ₂;
 * other than a root of the product it also works for singular covariances, as of fewer images than features.
 */
import * as torch from '@patch-diffusion/torch';
import { keep, type Tensor } from '@patch-diffusion/torch';

/** Mean and covariance of feature vectors. */
export interface FeatureStatistics {
  /** float64 [D]. */
  readonly mean: Tensor;
  /** float64 [D, D]; divided by N − 1. */
  readonly covariance: Tensor;
}

/** Collects mean and covariance batch by batch, so that features need not be kept. */
export class FeatureAccumulator {
  /** Feature vectors so far. */
  count = 0;
  readonly #sum: Tensor;
  readonly #products: Tensor;

  /** @param dim length D of the feature vectors */
  constructor(dim: number) {
    this.#sum = keep(torch.zeros([dim], { dtype: 'float64' }));
    this.#products = keep(torch.zeros([dim, dim], { dtype: 'float64' }));
  }

  /** @param features [N, D], of any floating-point type, on any device */
  add(features: Tensor): void {
    torch.noGrad(() =>
      torch.scope(() => {
        const f = features.detach().to({ dtype: 'float64', device: 'cpu' });
        this.#sum.add_(f.sum([0]));
        this.#products.add_(f.t().matmul(f));
      }),
    );
    this.count += features.shape[0];
  }

  /** Adds, or with a factor of −1 takes away, what another one has collected. */
  merge(other: FeatureAccumulator, factor: 1 | -1 = 1): void {
    torch.noGrad(() =>
      torch.scope(() => {
        this.#sum.add_(other.#sum.mul(factor));
        this.#products.add_(other.#products.mul(factor));
      }),
    );
    this.count += factor * other.count;
  }

  /** @throws RangeError for fewer than 2 feature vectors, which have no covariance */
  statistics(): FeatureStatistics {
    const { count } = this;
    if (count < 2) throw new RangeError(`statistics need at least 2 feature vectors, not ${count}`);
    return torch.scope(() => {
      const mean = this.#sum.div(count);
      const covariance = this.#products.sub(torch.outer(mean, mean).mul(count)).div(count - 1);
      return { mean, covariance };
    });
  }

  dispose(): void {
    this.#sum.dispose();
    this.#products.dispose();
  }
}

/**
 * The Fréchet distance between two sets of statistics; 0 for equal ones up to rounding.
 * @throws RangeError if they are of features of different lengths
 */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  const [dimA, dimB] = [a.mean.numel, b.mean.numel];
  if (dimA !== dimB) {
    throw new RangeError(
      `statistics of ${dimA} and ${dimB} features cannot be compared; use the same detector`,
    );
  }
  return torch.noGrad(() =>
    torch.scope(() => {
      const meanTerm = a.mean.sub(b.mean).square().sum().item();
      const [factor, other] = factorOfEither(a.covariance, b.covariance);
      const eigenvalues = torch.linalgEigvalsh(symmetric(factor.t().matmul(other).matmul(factor)));
      const rootTrace = positivePart(eigenvalues).sqrt().sum().item();
      const traces = a.covariance.trace().add(b.covariance.trace()).item();
      return meanTerm + traces - 2 * rootTrace;
    }),
  );
}

/**
 * A factor F of one matrix, FFᵀ, and the other matrix. Cholesky's is many times cheaper than a root, and fails where a
 * covariance is singular.
 */
function factorOfEither(a: Tensor, b: Tensor): [factor: Tensor, other: Tensor] {
  for (const [matrix, other] of [
    [b, a],
    [a, b],
  ]) {
    try {
      return [torch.linalgCholesky(matrix), other];
    } catch (error) {
      if (!(error instanceof torch.TorchError)) throw error;
    }
  }
  return [squareRoot(b), a];
}

/** The symmetric root of a positive semidefinite matrix. */
function squareRoot(matrix: Tensor): Tensor {
  const [eigenvalues, vectors] = torch.linalgEigh(symmetric(matrix));
  return vectors.mul(positivePart(eigenvalues).sqrt()).matmul(vectors.t());
}

/**
 * Sets to 0 what is negative or below the rounding error of the eigenvalues: the root of 10⁻¹⁶ is 10⁻⁸, and a singular
 * covariance of 2048 features has many of them.
 */
function positivePart(eigenvalues: Tensor): Tensor {
  const noise = Math.max(0, eigenvalues.max().item()) * eigenvalues.numel * Number.EPSILON;
  return torch.where(eigenvalues.gt(noise), eigenvalues, torch.zerosLike(eigenvalues));
}

/** Rounding leaves a little asymmetry. */
function symmetric(matrix: Tensor): Tensor {
  return matrix.add(matrix.t()).div(2);
}
