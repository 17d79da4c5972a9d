/**
 * The method, part by part: patches and their schedules, networks, preconditioning, losses, augmentation, guidance, and
 * one training update. Works on tensors of `@patch-diffusion/torch`; files and folders are the business of the other
 * entry points.
 */

export { type RandomSource, TorchRandom } from './common/random-source.js';
export {
  type AugmentSpec,
  augmentLabelDim,
  createAugment,
  trainingAugment,
} from './diffusion/augmentation/index.js';
export { prepareDenoiser, resolveDevice, resolvePrecision } from './diffusion/device.js';
export { type Guidance, guidedDenoise } from './diffusion/guidance.js';
export type { Candidates } from './diffusion/immiscible.js';
export type { Label } from './diffusion/labels.js';
export { denoisingLoss, type LossNorm, type LossSpec, lossFactor } from './diffusion/losses.js';
export type { Precision } from './diffusion/precision.js';
export type { PrecondSpec } from './diffusion/precond-spec.js';
export { createDenoiser, Denoiser, type DenoiserInputs } from './diffusion/preconditioning.js';
export { type SampleOptions, sampleImages, toUint8 } from './diffusion/sample.js';
export {
  ARCHITECTURES,
  type Architecture,
  createNetwork,
  type NetworkSpec,
} from './networks/index.js';
export { Conv2d, Linear } from './networks/layers.js';
export { type Conditioning, UNet } from './networks/unet.js';
export {
  type Augment,
  makePatchBatch,
  type PatchBatch,
  type PatchBatchOptions,
  pixelsToFloat,
} from './patches/batches.js';
export {
  drawOffsets,
  extractPatches,
  type PatchOffsets,
  patchPositions,
  windowPositions,
} from './patches/crops.js';
export type { Extent } from './patches/extent.js';
export type { Crop, PatchSource } from './patches/patch-source.js';
export { embedPositions } from './patches/position-embedding.js';
export {
  type Annealing,
  customPatchSizes,
  defaultPatchSizes,
  meanMultiplier,
  type PatchSchedule,
  type PatchSize,
  type PlannedMicroBatch,
  planUpdate,
  SCHEDULES,
  type ScheduleName,
  type UpdatePlan,
} from './patches/schedule.js';
export { copyWeights, type EmaOptions, emaBeta, updateEma } from './training/ema.js';
export type { MicroBatch } from './training/gradient.js';
export { heldOutLoss } from './training/held-out-loss.js';
export { type DataShape, lossSpec, patchSchedule, patchSizes, precondSpec } from './training/model.js';
export { PassGraphs, type PassGraphsOptions } from './training/pass-graphs.js';
export {
  learningRate,
  type MicroBatchLoss,
  type StepOptions,
  type StepResult,
  type TrainingState,
  trainStep,
  type Update,
} from './training/step.js';
