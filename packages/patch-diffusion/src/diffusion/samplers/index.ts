/** The samplers by name. Without Node or native imports. */
import type { Sampler, SigmaRange } from './array-math.js';
import { planDpmSolver } from './dpm-solver.js';
import { planEdm } from './edm.js';
import { type GeneralisedSamplerOptions, planGeneralised } from './generalised.js';

export const SAMPLERS = ['edm', 'generalised', 'dpmpp-2m', 'dpmpp-2m-sde'] as const;

/**
 * `edm`: Heun with optional churn; `generalised`: any combination of EDM's ablations; `dpmpp-2m`, `dpmpp-2m-sde`:
 * DPM-Solver++, deterministic or stochastic.
 */
export type SamplerName = (typeof SAMPLERS)[number];

/**
 * Whether a sampler adds noise by `sChurn`.
 * @example
 * ```ts
 * takesChurn('edm'); // true
 * ```
 */
export const takesChurn = (name: SamplerName): boolean => name === 'edm' || name === 'generalised';

/** Options of all samplers; each takes those that it knows. */
export interface SamplerOptions extends GeneralisedSamplerOptions {
  /** Default `edm`. */
  readonly sampler?: SamplerName;
}

/**
 * Fixes the steps of a sampling for a denoiser's noise levels.
 * @example
 * ```ts
 * const range = { sigmaMin: 0, sigmaMax: Number.POSITIVE_INFINITY, roundSigma: (sigma: number) => sigma };
 * const plan = planSampler({ sampler: 'dpmpp-2m', numSteps: 20 }, range);
 * console.log(plan.sigmas.length, plan.initialScale); // 20 and 80
 * ```
 */
export function planSampler(options: SamplerOptions, range: SigmaRange): Sampler {
  switch (options.sampler ?? 'edm') {
    case 'edm':
      return planEdm(options, range);
    case 'generalised':
      return planGeneralised(options, range);
    case 'dpmpp-2m':
      return planDpmSolver({ ...options, eta: 0 }, range);
    case 'dpmpp-2m-sde':
      return planDpmSolver({ ...options, eta: 1 }, range);
  }
}
