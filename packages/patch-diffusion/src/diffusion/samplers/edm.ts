/**
 * The EDM sampler: Heun's second-order method, deterministic or with churn (Karras et al. 2022, algorithms 1 and 2).
 * Written over {@link ArrayMath}, without Node or native imports.
 */
import type { ArrayMath, Sampler, SigmaRange, SolverState, SolverStep } from './array-math.js';

export interface EdmSamplerOptions {
  /** Solver steps; the denoiser runs 2·numSteps − 1 times. Default 18. */
  readonly numSteps?: number;
  /** Lowest noise level. Default 0.002. */
  readonly sigmaMin?: number;
  /** Highest noise level. Default 80. */
  readonly sigmaMax?: number;
  /** Exponent of the time steps; larger puts more of them at low noise. Default 7. */
  readonly rho?: number;
  /** Total amount of added noise; 0 is deterministic. Default 0. */
  readonly sChurn?: number;
  /** Noise is added only between these levels. Defaults 0 and ∞. */
  readonly sMin?: number;
  readonly sMax?: number;
  /** Standard deviation of the added noise. Default 1. */
  readonly sNoise?: number;
}

/** What the options mean where they are left out. */
export const EDM_DEFAULTS = {
  numSteps: 18,
  sigmaMin: 0.002,
  sigmaMax: 80,
  rho: 7,
  sChurn: 0,
  sMin: 0,
  sMax: Number.POSITIVE_INFINITY,
  sNoise: 1,
} as const satisfies Required<EdmSamplerOptions>;

/**
 * Noise levels σ_0 > … > σ_{n−1} (equation 5), float64. A single step starts at the highest level.
 * @param range limits of the denoiser, to which the levels are clipped
 * @example
 * ```ts
 * const sigmas = edmNoiseLevels({ numSteps: 18 }); // 80 … 0.002
 * ```
 */
export function edmNoiseLevels(
  options: EdmSamplerOptions,
  range: Pick<SigmaRange, 'sigmaMin' | 'sigmaMax'> = { sigmaMin: 0, sigmaMax: Number.POSITIVE_INFINITY },
): Float64Array {
  const { numSteps = EDM_DEFAULTS.numSteps, rho = EDM_DEFAULTS.rho } = options;
  const { sigmaMin = EDM_DEFAULTS.sigmaMin, sigmaMax = EDM_DEFAULTS.sigmaMax } = options;
  const low = Math.max(sigmaMin, range.sigmaMin) ** (1 / rho);
  const high = Math.min(sigmaMax, range.sigmaMax) ** (1 / rho);
  return Float64Array.from({ length: numSteps }, (_, i) => {
    const fraction = numSteps > 1 ? i / (numSteps - 1) : 0;
    return (high + fraction * (low - high)) ** rho;
  });
}

/** γ: by how much step i raises its noise level (algorithm 2, line 4). */
export function churnFactor(options: EdmSamplerOptions, numSteps: number, sigma: number): number {
  const { sChurn = EDM_DEFAULTS.sChurn, sMin = EDM_DEFAULTS.sMin, sMax = EDM_DEFAULTS.sMax } = options;
  return sigma >= sMin && sigma <= sMax ? Math.min(sChurn / numSteps, Math.SQRT2 - 1) : 0;
}

/** Fixes the steps of an EDM sampling. */
export function planEdm(options: EdmSamplerOptions, range: SigmaRange): Sampler {
  const { sChurn = EDM_DEFAULTS.sChurn, sNoise = EDM_DEFAULTS.sNoise } = options;
  const sigmas = edmNoiseLevels(options, range);
  const times = Float64Array.of(...sigmas.map((sigma) => range.roundSigma(sigma)), 0);
  const numSteps = sigmas.length;

  function* step<T>(math: ArrayMath<T>, i: number, { x }: SolverState<T>, noise: T | null): SolverStep<T> {
    const [tCur, tNext] = [times[i], times[i + 1]];

    // Raise the noise level for a moment.
    const tHat = range.roundSigma(tCur + churnFactor(options, numSteps, tCur) * tCur);
    const xHat = noise
      ? math.combine([1, x], [Math.sqrt(Math.max(tHat ** 2 - tCur ** 2, 0)) * sNoise, noise])
      : x;

    // Euler step; slope d = (x̂ − D) / t̂.
    const denoised = yield { x: xHat, sigma: tHat };
    const d = math.combine([1 / tHat, xHat], [-1 / tHat, denoised]);
    const euler = math.combine([1, xHat], [tNext - tHat, d]);
    if (i === numSteps - 1) return { x: euler };

    // Second-order correction with the slope at the other end.
    const denoisedNext = yield { x: euler, sigma: tNext };
    const dNext = math.combine([1 / tNext, euler], [-1 / tNext, denoisedNext]);
    return { x: math.combine([1, xHat], [(tNext - tHat) / 2, d], [(tNext - tHat) / 2, dNext]) };
  }

  return { sigmas, times, initialScale: times[0], needsNoise: sChurn > 0, step };
}
