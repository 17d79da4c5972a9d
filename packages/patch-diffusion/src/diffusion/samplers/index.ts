/** The samplers by name. Without Node or native imports. */
import type { Sampler, SigmaRange } from './array-math.js';
import { CONSISTENCY_DEFAULTS, planConsistency } from './consistency.js';
import { planDpmSolver } from './dpm-solver.js';
import { EDM_DEFAULTS, planEdm } from './edm.js';
import { type GeneralisedSamplerOptions, planGeneralised } from './generalised.js';

/** The samplers that need no options of their own; a training records one of them. */
export const PLAIN_SAMPLERS = ['edm', 'dpmpp-2m', 'dpmpp-2m-sde', 'ect'] as const;
export const SAMPLERS = [...PLAIN_SAMPLERS, 'generalised'] as const;

/**
 * `edm`: Heun with optional churn; `generalised`: any combination of EDM's ablations; `dpmpp-2m`, `dpmpp-2m-sde`:
 * DPM-Solver++, deterministic or stochastic; `ect`: the few steps of networks that were trained for them (`train --objective ect`).
 */
export type SamplerName = (typeof SAMPLERS)[number];

/** What samples are drawn with unless told otherwise, as recorded with a network. */
export interface RecordedSampling {
  readonly sampler: (typeof PLAIN_SAMPLERS)[number];
  readonly numSteps: number;
  readonly sChurn: number;
}

/** Settings of a sampling that a user may leave open (null or undefined). */
export interface SamplingChoice {
  readonly sampler?: SamplerName | null | undefined;
  readonly numSteps?: number | null | undefined;
  readonly sChurn?: number | null | undefined;
}

/**
 * Fills in what a user left open: the recorded sampler, or `edm` where churn is asked for that it does not have; steps
 * and churn as recorded for that sampler, for another one 18 steps (`ect`: 2) without churn.
 * @example
 * ```ts
 * const recorded = { sampler: 'dpmpp-2m', numSteps: 15, sChurn: 0 } as const;
 * chooseSampling({}, recorded); // as recorded
 * chooseSampling({ sChurn: 12 }, recorded); // edm, 18 steps
 * ```
 */
export function chooseSampling(
  { sampler: wanted, numSteps, sChurn }: SamplingChoice,
  recorded: RecordedSampling,
): { readonly sampler: SamplerName; readonly numSteps: number; readonly sChurn: number } {
  const needsChurn = (sChurn ?? 0) > 0 && !takesChurn(recorded.sampler);
  const sampler = wanted ?? (needsChurn ? 'edm' : recorded.sampler);
  const ownDefaults = sampler === 'ect' ? { ...EDM_DEFAULTS, ...CONSISTENCY_DEFAULTS } : EDM_DEFAULTS;
  const given = sampler === recorded.sampler ? recorded : ownDefaults;
  return { sampler, numSteps: numSteps ?? given.numSteps, sChurn: sChurn ?? given.sChurn };
}

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
    case 'ect':
      return planConsistency(options, range);
  }
}
