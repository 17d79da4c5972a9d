/**
 * Presets: named sets of training defaults, on top of those of the options themselves. `tiny` and `small` are ours, for
 * a CPU or one GPU; the others are the published configurations of Patch Diffusion (arXiv 2304.12526, README table)
 * and EDM (arXiv 2206.00364), with the constants that their trainers hard-code (10,000 kimg learning-rate ramp, EMA
 * ramp-up ratio 0.05, four residual blocks, attention at 16 px) and their loss, which is summed over pixels.
 */

import { nearest, usageError } from '../common/errors.js';
import { defaultsOf } from './read-values.js';
import { type TrainOptions, trainFields } from './train-options.js';

type PresetValues = Omit<TrainOptions, 'data' | 'preset' | 'seed'>;

/** What each preset sets for itself. */
type OwnValues = Partial<PresetValues> &
  Pick<PresetValues, 'modelChannels' | 'channelMult' | 'numBlocks' | 'attnResolutions' | 'dropout'> &
  Pick<PresetValues, 'lossNorm' | 'durationKimg' | 'batch' | 'lr' | 'lrRampupKimg' | 'emaHalflifeKimg'> &
  Pick<PresetValues, 'tickKimg' | 'snapshotTicks' | 'stateTicks' | 'sampleSteps'>;

export interface Preset {
  readonly summary: string;
  /** Image side in pixels that the preset is meant for; prepared data of another size keeps its own. */
  readonly sidePx: number;
  readonly values: PresetValues;
}

function preset(sidePx: number, summary: string, own: OwnValues): Preset {
  const { preset: _, ...common } = defaultsOf(trainFields);
  return { summary, sidePx, values: { ...(common as PresetValues), ...own } };
}

/**
 * What pays in runs of minutes to hours: patches that give way to whole images, Muon, and a learning rate that falls at the
 * end, the best way with patches in docs/results.md; the loss per pixel; a sampler with fresh noise, which corrects the errors
 * of a rough denoiser; and the faster precision.
 */
const shortRun = {
  schedule: 'annealed',
  realPFrom: 0.05,
  realPTo: 1,
  optimizer: 'muon',
  lrCooldown: 0.2,
  lossNorm: 'mean',
  sampler: 'dpmpp-2m-sde',
  sampleSteps: 12,
  precision: 'auto',
  snapshotTicks: 5,
  stateTicks: 2,
} as const;

/** Intervals of the published trainer. */
const published = {
  lossNorm: 'sum',
  durationKimg: 200_000,
  lrRampupKimg: 10_000,
  tickKimg: 50,
  snapshotTicks: 50,
  stateTicks: 500,
  sampleSteps: 50,
} as const;

const tiny: OwnValues = {
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
  tickKimg: 10,
  snapshotTicks: 3,
};

const small: OwnValues = {
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
};

/** README row "CelebA-64, also the template for FFHQ-64" (there on 8 GPUs, 32 images each). */
const celeba: OwnValues = {
  ...published,
  modelChannels: 128,
  channelMult: [1, 2, 2, 2],
  numBlocks: 4,
  attnResolutions: [16],
  dropout: 0.05,
  batch: 256,
  lr: 2e-4,
  emaHalflifeKimg: 500,
};

/** README row "LSUN-Bedroom/Church-256 (latent)": latents of 32×32, ADM's network (there on 8 GPUs in half precision). */
const lsun: OwnValues = {
  ...published,
  latents: true,
  arch: 'adm',
  modelChannels: 192,
  channelMult: [1, 2, 3, 4],
  numBlocks: 3,
  attnResolutions: [32, 16, 8],
  dropout: 0.1,
  lossScaling: 100,
  batch: 1024,
  batchGpu: 32,
  lr: 1e-4,
  emaHalflifeKimg: 50_000,
};

/** The label dropout is the paper's (section 4); guidance needs it, and the published command line cannot set it. */
const imagenet: OwnValues = {
  ...lsun,
  cond: true,
  labelDropout: 0.1,
  durationKimg: 2_500_000,
  batch: 4096,
  tickKimg: 200,
};

export const presets = {
  tiny: preset(32, '32 px: minutes on two CPU cores', tiny),
  small: preset(64, '64 px: one GPU, or a CPU with patience', small),
  'celeba-64': preset(64, '64 px, 62 M weights: published CelebA configuration', celeba),
  'ffhq-64': preset(64, '64 px, 62 M weights: published FFHQ configuration', celeba),
  'afhqv2-64': preset(64, '64 px, 62 M weights: AFHQv2, 75 Mimg, dropout 0.25 as in EDM', {
    ...celeba,
    dropout: 0.25,
    durationKimg: 75_000,
  }),
  'lsun-256': preset(256, '256 px in latents of 32×32, 280 M weights: published LSUN configuration', lsun),
  'imagenet-256': preset(
    256,
    '256 px in latents, with classes: published ImageNet configuration, label dropout 0.1',
    imagenet,
  ),
} satisfies Record<string, Preset>;

export type PresetName = keyof typeof presets;
export const presetNames = Object.keys(presets) as PresetName[];

/** Whether a preset is one of the published configurations. */
export const isPublished = (name: string): boolean => name !== 'tiny' && name !== 'small';

/** @throws {UserError} `preset` is unknown; the message names the nearest one. */
export function getPreset(name: string): Preset {
  if (Object.hasOwn(presets, name)) return presets[name as PresetName];
  const near = nearest(name, presetNames);
  const hint = near === undefined ? `presets are ${presetNames.join(', ')}` : `did you mean "${near}"?`;
  throw usageError('UNKNOWN_PRESET', `unknown preset "${name}"; ${hint}`);
}
