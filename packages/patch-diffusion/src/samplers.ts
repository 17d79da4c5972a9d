/**
 * The samplers and all that goes with them (noise levels, random numbers, coordinates, guidance) in plain arithmetic, without libtorch and without Node: they run in a browser as well.
 * A sampler is a coroutine that asks for denoised estimates; which arrays it works on is the caller's choice
 * ({@link ArrayMath}).
 */

export { PortableRandom } from './common/portable-random.js';
export { type GuidanceRule, guide, isGuided } from './diffusion/guidance-rule.js';
export { drawLabels, type Label, labelRows } from './diffusion/labels.js';
export { iddpmSigmas, nearestLevel, vpSigma, vpSigmaInverse } from './diffusion/noise-levels.js';
export {
  type ArrayMath,
  float64Math,
  type Query,
  runStep,
  runStepAsync,
  type Sampler,
  type SigmaRange,
  type SolverState,
  type SolverStep,
} from './diffusion/samplers/array-math.js';
export { EDM_DEFAULTS, edmNoiseLevels } from './diffusion/samplers/edm.js';
export {
  chooseSampling,
  PLAIN_SAMPLERS,
  planSampler,
  type RecordedSampling,
  SAMPLERS,
  type SamplerName,
  type SamplerOptions,
  type SamplingChoice,
  takesChurn,
} from './diffusion/samplers/index.js';
export type { OnnxDecoderInfo, OnnxDenoiserInfo } from './interchange/onnx/metadata.js';
export { coordinateGrid, type Window } from './patches/coordinate-grid.js';
export type { Extent } from './patches/extent.js';
