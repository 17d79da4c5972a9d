/** Images for training: reading, preparing, ordering. */
export { type DatasetInfo, datasetInfo } from './dataset-info.js';
export { type DemoOptions, demoImages, renderDemoSet } from './demo-images.js';
export { Mt19937, type Mt19937Json, type Mt19937State } from './mt19937.js';
export { type OpenImagesOptions, openImages } from './open-images.js';
export { type PrepareReport, prepare } from './prepare.js';
export { type PrepareOptions, parseResolution, prepareOptionsSchema } from './prepare-options.js';
export {
  InfiniteSampler,
  type SamplerJson,
  type SamplerMode,
  type SamplerOptions,
  type SamplerState,
} from './sampler.js';
export { chooseSubset, splitHoldout } from './subset.js';
export { TRANSFORMS, type Transform } from './transform.js';
export type { Crop, ImageReport, ImageSet, LabelMode, Progress, Size, SkippedFile } from './types.js';
export { holdOut, ImageSubset } from './views.js';
