/**
 * The EDM sampler: Heun's second-order method, deterministic or with churn (Karras et al. 2022, algorithms 1 and 2).
 * Written over {@link ArrayMath}, without Node or native imports.
 */
import type { ArrayMath, SigmaRange, SolverStep } from './array-math.js';

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

/** Times t_0 > … > t_{n−1} > t_n = 0 (equation 5), float64. A single step goes from the highest level to 0. */
export function edmTimeSteps(options: EdmSamplerOptions, range: SigmaRange): Float64Array {
  const { numSteps = 18, rho = 7 } = options;
  const low = Math.max(options.sigmaMin ?? 0.002, range.sigmaMin) ** (1 / rho);
  const high = Math.min(options.sigmaMax ?? 80, range.sigmaMax) ** (1 / rho);
  const times = new Float64Array(numSteps + 1);
  for (let i = 0; i < numSteps; i++) {
    const fraction = numSteps > 1 ? i / (numSteps - 1) : 0;
    times[i] = range.roundSigma((high + fraction * (low - high)) ** rho);
  }
  return times;
}

/** Whether step i adds noise, so that the caller need not draw any otherwise. */
export function edmAddsNoise(options: EdmSamplerOptions, time: number): boolean {
  const { sChurn = 0, sMin = 0, sMax = Number.POSITIVE_INFINITY } = options;
  return sChurn > 0 && time >= sMin && time <= sMax;
}

/**
 * Step i of the sampler, from noise level times[i] to times[i + 1].
 * @param x state at times[i]
 * @param noise standard normal draws shaped like x; null where {@link edmAddsNoise} says that none is needed
 */
export function* edmStep<T>(
  math: ArrayMath<T>,
  options: EdmSamplerOptions,
  range: SigmaRange,
  times: Float64Array,
  i: number,
  x: T,
  noise: T | null,
): SolverStep<T> {
  const { sChurn = 0, sNoise = 1 } = options;
  const numSteps = times.length - 1;
  const [tCur, tNext] = [times[i], times[i + 1]];

  // Raise the noise level for a moment.
  const gamma = noise && edmAddsNoise(options, tCur) ? Math.min(sChurn / numSteps, Math.SQRT2 - 1) : 0;
  const tHat = range.roundSigma(tCur + gamma * tCur);
  const xHat = noise ? math.combine([1, x], [Math.sqrt(Math.max(tHat ** 2 - tCur ** 2, 0)) * sNoise, noise]) : x;

  // Euler step; slope d = (x̂ − D) / t̂.
  const denoised = yield { x: xHat, sigma: tHat };
  const d = math.combine([1 / tHat, xHat], [-1 / tHat, denoised]);
  const euler = math.combine([1, xHat], [tNext - tHat, d]);
  if (i === numSteps - 1) return euler;

  // Second-order correction with the slope at the other end.
  const denoisedNext = yield { x: euler, sigma: tNext };
  const dNext = math.combine([1 / tNext, euler], [-1 / tNext, denoisedNext]);
  return math.combine([1, xHat], [(tNext - tHat) / 2, d], [(tNext - tHat) / 2, dNext]);
}
