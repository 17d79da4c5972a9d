/**
 * The samplers and noise levels in plain arithmetic, without libtorch and without Node: they run in a browser as well.
 * A sampler is a coroutine that asks for denoised estimates; which arrays it works on is the caller's choice
 * ({@link ArrayMath}).
 */

export { iddpmSigmas, vpSigma, vpSigmaInverse } from './diffusion/noise-levels.js';
export {
  type ArrayMath,
  float64Math,
  type Query,
  runStep,
  type Sampler,
  type SigmaRange,
  type SolverState,
  type SolverStep,
} from './diffusion/samplers/array-math.js';
export { EDM_DEFAULTS, edmNoiseLevels } from './diffusion/samplers/edm.js';
export { planSampler, SAMPLERS, type SamplerName, type SamplerOptions } from './diffusion/samplers/index.js';
