/**
 * Multistep consistency sampling (Song et al. 2023, algorithm 1) for networks that were tuned by ECT: each step jumps to the
 * end and adds noise of the next level. Written over {@link ArrayMath}, without Node or native imports.
 */
import type { ArrayMath, Sampler, SigmaRange, SolverState, SolverStep } from './array-math.js';
import { EDM_DEFAULTS, type EdmSamplerOptions, edmNoiseLevels } from './edm.js';

export type ConsistencySamplerOptions = Pick<
  EdmSamplerOptions,
  'numSteps' | 'sigmaMin' | 'sigmaMax' | 'rho' | 'sNoise'
>;

/** What the options mean where they are left out: two steps, the second one from the level of Song & Dhariwal 2024. */
export const CONSISTENCY_DEFAULTS = { numSteps: 2, sigmaMin: 0.821 } as const;

/** Fixes the steps of a consistency sampling. */
export function planConsistency(options: ConsistencySamplerOptions, range: SigmaRange): Sampler {
  const { numSteps = CONSISTENCY_DEFAULTS.numSteps, sigmaMin = CONSISTENCY_DEFAULTS.sigmaMin } = options;
  const { sNoise = EDM_DEFAULTS.sNoise } = options;
  const sigmas = edmNoiseLevels({ ...options, numSteps, sigmaMin }, range);
  const times = Float64Array.of(...sigmas.map((sigma) => range.roundSigma(sigma)), 0);

  function* step<T>(math: ArrayMath<T>, i: number, { x }: SolverState<T>, noise: T | null): SolverStep<T> {
    const denoised = yield { x, sigma: times[i] };
    const next = times[i + 1] * sNoise;
    return { x: noise && next > 0 ? math.combine([1, denoised], [next, noise]) : denoised };
  }

  return { sigmas, times, initialScale: times[0], needsNoise: true, step };
}
