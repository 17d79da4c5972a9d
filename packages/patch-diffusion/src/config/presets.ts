/**
 * Presets: named sets of training defaults. `tiny` and `small` are ours, for a CPU or one GPU; the others are
 * the published configurations of Patch Diffusion (arXiv 2304.12526, README table) and EDM (arXiv 2206.00364),
 * with the constants that their trainers hard-code (10,000 kimg learning-rate ramp, EMA ramp-up ratio 0.05,
 * four residual blocks, attention at 16 px) and their loss, which is summed over pixels.
 */

import { nearest, UserError } from '../common/errors.js';
import type { TrainOptions } from './train-options.js';

type Defaults = Omit<TrainOptions, 'data' | 'preset' | 'seed'>;

export interface Preset {
  readonly summary: string;
  /** Image side in pixels that the preset is meant for; prepared data of another size keeps its own. */
  readonly sidePx: number;
  readonly values: Defaults;
}

/** Settings on which all presets agree. */
const common = {
  resolution: null,
  channels: null,
  cond: false,
  xflip: false,
  maxImages: null,
  order: 'window',
  holdout: 0,
  strict: false,
  latents: 'auto',
  autoencoder: null,
  arch: 'ddpmpp',
  precond: 'pedm',
  labelDropout: 0,
  sigmaData: 0.5,
  implicitMlp: false,
  realP: 0.5,
  schedule: 'stochastic',
  realPFrom: 0.1,
  realPTo: 0.7,
  annealing: 'linear',
  patchSizes: null,
  maxSec: null,
  batchGpu: null,
  pMean: -1.2,
  pStd: 1.2,
  betas: [0.9, 0.999],
  adamEps: 1e-8,
  augment: 0,
  augmentAt: 'patch',
  emaRampupRatio: 0.05,
  lossScaling: 1,
  resume: null,
  transfer: null,
  out: 'runs',
  desc: null,
  nosubdir: false,
  sampleTicks: 1,
  samples: 16,
  sampleSec: null,
  sampleChurn: 0,
  device: 'auto',
  precision: 'fp32',
  threads: null,
} satisfies Partial<Defaults>;

/**
 * What pays in runs of minutes to hours: all patch sizes in every update, which halves the gradient's variance, the
 * loss per pixel, and churn in the sampler, which corrects the errors of a rough denoiser.
 */
const shortRun = {
  schedule: 'stratified',
  lossNorm: 'mean',
  sampleSteps: 24,
  sampleChurn: 12,
} satisfies Partial<Defaults>;

const tiny: Defaults = {
  ...common,
  ...shortRun,
  modelChannels: 32,
  channelMult: [1, 2, 2],
  numBlocks: 1,
  attnResolutions: [8],
  dropout: 0,
  durationKimg: 200,
  batch: 16,
  lr: 1e-3,
  lrRampupKimg: 2,
  emaHalflifeKimg: 20,
  tickKimg: 5,
  snapshotTicks: 5,
  stateTicks: 5,
};

const small: Defaults = {
  ...common,
  ...shortRun,
  modelChannels: 64,
  channelMult: [1, 2, 2],
  numBlocks: 2,
  attnResolutions: [16],
  dropout: 0.05,
  durationKimg: 5000,
  batch: 64,
  lr: 5e-4,
  lrRampupKimg: 20,
  emaHalflifeKimg: 100,
  tickKimg: 10,
  snapshotTicks: 5,
  stateTicks: 5,
};

/** README row "CelebA-64, also the template for FFHQ-64" (there on 8 GPUs, 32 images each). */
const celeba: Defaults = {
  ...common,
  modelChannels: 128,
  channelMult: [1, 2, 2, 2],
  numBlocks: 4,
  attnResolutions: [16],
  dropout: 0.05,
  lossNorm: 'sum',
  durationKimg: 200_000,
  batch: 256,
  lr: 2e-4,
  lrRampupKimg: 10_000,
  emaHalflifeKimg: 500,
  tickKimg: 50,
  snapshotTicks: 50,
  stateTicks: 500,
  sampleSteps: 50,
};

/** README row "LSUN-Bedroom/Church-256 (latent)": latents of 32×32, ADM's network (there on 8 GPUs in half precision). */
const lsun: Defaults = {
  ...common,
  latents: true,
  arch: 'adm',
  modelChannels: 192,
  channelMult: [1, 2, 3, 4],
  numBlocks: 3,
  attnResolutions: [32, 16, 8],
  dropout: 0.1,
  lossNorm: 'sum',
  lossScaling: 100,
  durationKimg: 200_000,
  batch: 1024,
  batchGpu: 32,
  lr: 1e-4,
  lrRampupKimg: 10_000,
  emaHalflifeKimg: 50_000,
  tickKimg: 50,
  snapshotTicks: 50,
  stateTicks: 500,
  sampleSteps: 50,
};

export const presets = {
  tiny: { summary: '32 px: minutes on two CPU cores', sidePx: 32, values: tiny },
  small: { summary: '64 px: one GPU, or a CPU with patience', sidePx: 64, values: small },
  'celeba-64': { summary: '64 px, 62 M weights: published CelebA configuration', sidePx: 64, values: celeba },
  'ffhq-64': { summary: '64 px, 62 M weights: published FFHQ configuration', sidePx: 64, values: celeba },
  'afhqv2-64': {
    summary: '64 px, 62 M weights: AFHQv2, 75 Mimg, dropout 0.25 as in EDM',
    sidePx: 64,
    values: { ...celeba, dropout: 0.25, durationKimg: 75_000 },
  },
  'lsun-256': {
    summary: '256 px in latents of 32×32, 280 M weights: published LSUN configuration',
    sidePx: 256,
    values: lsun,
  },
  'imagenet-256': {
    summary: '256 px in latents, with classes: published ImageNet configuration, label dropout 0.1',
    sidePx: 256,
    // The label dropout is the paper's (section 4); guidance needs it, and the published command line cannot set it.
    values: { ...lsun, cond: true, labelDropout: 0.1, durationKimg: 2_500_000, batch: 4096, tickKimg: 200 },
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof presets;
export const presetNames = Object.keys(presets) as PresetName[];
export const defaultPreset: PresetName = 'small';

/** @throws {UserError} `preset` is unknown; the message names the nearest one. */
export function getPreset(preset: string): Preset {
  if (Object.hasOwn(presets, preset)) return presets[preset as PresetName];
  const near = nearest(preset, presetNames);
  const hint = near === undefined ? `presets are ${presetNames.join(', ')}` : `did you mean "${near}"?`;
  throw new UserError('UNKNOWN_PRESET', `unknown preset "${preset}"; ${hint}`, { exitCode: 2 });
}
