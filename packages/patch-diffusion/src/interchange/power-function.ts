/**
 * Power-function moving averages and their reconstruction after training (Karras et al. 2024, arXiv 2312.02696, section 3).
 * An average of relative width w weighs the weights of time τ with p(τ) ∝ τ^γ up to now. Averages of two widths that are
 * stored now and then can be combined into an average of any width: the combination whose profile is nearest to the wanted
 * one in the least-squares sense. Times are images, counted by their pixels.
 */
import * as torch from '@patch-diffusion/torch';

/** Widths that are tracked. */
export const TRACKED_WIDTHS = [0.05, 0.1] as const;

/** Eigenvalues below this share of the largest one are noise. */
const RIDGE = 1e-12;

/** The weights of a moment: profile τ^γ, 0 … time. */
export interface Profile {
  /** Images, counted by pixels, when the average was stored; > 0. */
  readonly time: number;
  readonly gamma: number;
}

/** How stored averages make another one. */
export interface Combination {
  /** One for each stored average; they sum to 1. */
  readonly coefficients: readonly number[];
  /** Of the system that was solved; where it is large, rounding in the stored averages grows. */
  readonly condition: number;
  /** ‖wanted profile − profile of the combination‖ / ‖wanted profile‖: 0 is exact. */
  readonly fitError: number;
}

/**
 * The exponent γ of the power function of relative width w (standard deviation of the profile over its length).
 * @param width below 0.288, that of γ = 0
 */
export function powerGamma(width: number): number {
  // The width falls with γ: √((γ + 1) / ((γ + 2)² (γ + 3))).
  let [low, high] = [0, 1e4];
  for (let i = 0; i < 100; i++) {
    const gamma = (low + high) / 2;
    if ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) > width ** 2) low = gamma;
    else high = gamma;
  }
  return low;
}

/**
 * The decay of one update; 0 for the first one.
 * @param time images at the end of the update
 * @param step images of the update
 */
export function powerBeta(gamma: number, time: number, step: number): number {
  return (1 - step / time) ** (gamma + 1);
}

/** ∫ p q over the shorter of two profiles, each of which integrates to 1. */
function innerProduct(a: Profile, b: Profile): number {
  const [short, long] = a.time <= b.time ? [a, b] : [b, a];
  const factor = ((short.gamma + 1) * (long.gamma + 1)) / (short.gamma + long.gamma + 1);
  return (factor * (short.time / long.time) ** long.gamma) / long.time;
}

/** The combination of stored averages that is nearest to another one. */
export function combineProfiles(stored: readonly Profile[], wanted: Profile): Combination {
  const norms = stored.map((profile) => Math.sqrt(innerProduct(profile, profile)));
  const wantedNorm = Math.sqrt(innerProduct(wanted, wanted));
  const n = stored.length;
  // Of profiles of norm 1, so that early and late ones count alike.
  const gram = Float64Array.from({ length: n * n }, (_, k) => {
    const [i, j] = [Math.floor(k / n), k % n];
    return innerProduct(stored[i], stored[j]) / (norms[i] * norms[j]);
  });
  const target = Float64Array.from(stored, (profile, i) => innerProduct(profile, wanted) / norms[i]);
  const { solution, condition } = solveSymmetric(gram, target);
  const scaled = Array.from(solution, (y, i) => y / norms[i]);
  const sum = scaled.reduce((a, b) => a + b, 0);
  const coefficients = scaled.map((x) => x / sum);
  // ‖Σ xᵢ pᵢ − p‖², with the rescaled coefficients.
  const inUnits = coefficients.map((x, i) => x * norms[i]);
  let square = wantedNorm ** 2;
  for (let i = 0; i < n; i++) {
    square -= 2 * inUnits[i] * target[i];
    for (let j = 0; j < n; j++) square += inUnits[i] * inUnits[j] * gram[i * n + j];
  }
  return { coefficients, condition, fitError: Math.sqrt(Math.max(square, 0)) / wantedNorm };
}

/** Solves A x = b for a symmetric positive A, [n, n] and [n], in float64. */
function solveSymmetric(A: Float64Array, b: Float64Array): { solution: Float64Array; condition: number } {
  const n = b.length;
  return torch.noGrad(() =>
    torch.scope(() => {
      const [values, vectors] = torch.linalgEigh(torch.tensor(A, { shape: [n, n] }));
      const eigenvalues = values.toTypedArray() as Float64Array;
      const largest = eigenvalues[n - 1];
      const projected = vectors.t().matmul(torch.tensor(b, { shape: [n, 1] }));
      const x = vectors.matmul(projected.div(values.add(RIDGE * largest).reshape([n, 1])));
      return {
        solution: Float64Array.from(x.reshape([n]).toTypedArray() as Float64Array),
        condition: largest / Math.max(eigenvalues[0], Number.MIN_VALUE),
      };
    }),
  );
}
