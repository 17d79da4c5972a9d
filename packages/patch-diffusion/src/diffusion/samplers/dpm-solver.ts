/**
 * DPM-Solver++ (2M), the second-order multistep solver of Lu et al. 2022 (arXiv 2211.01095, algorithm 2), and the 2M
 * variant for the diffusion SDE (appendix B of the paper), in the variance-exploding form σ(t) = t with EDM's noise
 * levels. One denoiser call per step, half of Heun's. Written over {@link ArrayMath}, without Node or native imports.
 *
 * In λ = −ln σ the exact solution of a step of length h is an exponential average of the estimates D, which are taken
 * to be linear in λ through the last two.
 */
import type { ArrayMath, Sampler, SigmaRange, SolverState, SolverStep } from './array-math.js';
import { EDM_DEFAULTS, type EdmSamplerOptions, edmNoiseLevels } from './edm.js';

export interface DpmSolverOptions
  extends Pick<EdmSamplerOptions, 'numSteps' | 'sigmaMin' | 'sigmaMax' | 'rho' | 'sNoise'> {
  /** Share of the noise that each step removes and draws anew: 0 is the ODE, 1 the SDE. Default 0. */
  readonly eta?: number;
}

/** Fixes the steps of a DPM-Solver++ (2M) sampling. */
export function planDpmSolver(options: DpmSolverOptions, range: SigmaRange): Sampler {
  const { eta = 0, sNoise = EDM_DEFAULTS.sNoise } = options;
  const sigmas = edmNoiseLevels(options, range);
  const times = Float64Array.of(...sigmas.map((sigma) => range.roundSigma(sigma)), 0);
  const logStep = (i: number) => Math.log(times[i] / times[i + 1]); // h

  function* step<T>(math: ArrayMath<T>, i: number, state: SolverState<T>, noise: T | null): SolverStep<T> {
    const [tCur, tNext] = [times[i], times[i + 1]];
    const denoised = yield { x: state.x, sigma: tCur };
    // The limit of an infinite step is the estimate itself.
    if (tNext === 0) return { x: denoised };

    const h = logStep(i);
    const keep = (tNext / tCur) * Math.exp(-eta * h);
    const blend = -Math.expm1(-(1 + eta) * h);
    const added = tNext * Math.sqrt(-Math.expm1(-2 * eta * h)) * sNoise;
    // D at the middle of the step, extrapolated from this estimate and the last.
    const terms: [number, T][] = [[keep, state.x]];
    const last = i > 0 ? logStep(i - 1) : 0;
    if (state.denoised && last > 0) {
      const slope = (0.5 * h) / last;
      terms.push([blend * (1 + slope), denoised], [-blend * slope, state.denoised]);
    } else {
      terms.push([blend, denoised]);
    }
    if (noise) terms.push([added, noise]);
    return { x: math.combine(...terms), denoised };
  }

  return { sigmas, times, initialScale: times[0], needsNoise: eta > 0, step };
}
