/**
 * The options of a training run: one schema for the command line, config files, presets and library calls.
 * Names are camelCase here, kebab-case as flags; names of the official trainer are aliases with their own
 * meaning and unit (spec: published option table of Patch Diffusion, arXiv 2304.12526).
 */

import { z } from 'zod';
import { PRECISIONS } from '../diffusion/precision.js';
import { SCHEDULES } from '../patches/schedule.js';
import * as f from './fields.js';

const DATA = 'Data';
const NETWORK = 'Network';
const PATCHES = 'Patches';
const TRAINING = 'Training';
const OUTPUT = 'Output and progress';
const MACHINE = 'Machine';

/** Field schemas of {@link TrainOptions}, in the order of the help page. */
export const trainFields = {
  data: f.path('Folder or zip of images', { group: DATA }),
  resolution: f.sizeOrNull(
    'Side, or width and height, to which images are cropped and resized; auto: as prepared, else that of the preset',
    {
      group: DATA,
      unit: 'px',
      min: 16,
      max: 4096,
      nullWord: 'auto',
    },
  ),
  channels: f.numberChoiceOrNull('Colour channels: 1 grey, 3 RGB, 4 RGB and transparency', [1, 3, 4], {
    group: DATA,
    nullWord: 'auto',
  }),
  cond: f.boolOrAuto('Train on class labels; auto: where the data has them', {
    group: DATA,
  }),
  xflip: f.boolean('Add a mirrored copy of every image', { group: DATA }),
  maxImages: f.intOrNull('Use at most this many images, chosen by the seed', {
    group: DATA,
    unit: 'images',
    min: 1,
    nullWord: 'all',
  }),
  order: f.choice(
    'Order of the images: an endless sliding-window shuffle, as published, or each image once per epoch',
    ['window', 'epochs'],
    { group: DATA },
  ),
  holdout: f.int('Images kept from training, for a held-out loss', { group: DATA, unit: 'images', min: 0 }),
  strict: f.boolean('Fail at the first unreadable image instead of skipping it', { group: DATA }),
  latents: f.boolOrAuto('Train on latents; auto: when the data is a file of `prepare --latents`', {
    group: DATA,
    aliases: [{ name: 'train-on-latents' }],
  }),
  autoencoder: f.pathOrNull('Folder of the autoencoder that turns sampled latents into images', {
    group: DATA,
    nullWord: 'recorded',
  }),

  preset: f.string('Set of defaults: tiny, small, celeba-64, ffhq-64, afhqv2-64, lsun-256, imagenet-256', {
    group: NETWORK,
    placeholder: 'name',
  }),
  arch: f.choice('Network architecture', ['ddpmpp', 'ncsnpp', 'adm'], { group: NETWORK }),
  precond: f.choice('Preconditioning and loss', ['pedm', 'edm', 'vp', 've'], {
    group: NETWORK,
  }),
  modelChannels: f.int('Base width of the network', {
    group: NETWORK,
    unit: 'channels',
    min: 4,
    max: 4096,
    aliases: [{ name: 'cbase' }],
  }),
  channelMult: f.ints('Width of each level, as multiples of the base width', {
    group: NETWORK,
    min: 1,
    max: 64,
    aliases: [{ name: 'cres' }],
  }),
  numBlocks: f.int('Residual blocks per level', { group: NETWORK, unit: 'blocks', min: 1, max: 32 }),
  attnResolutions: f.ints('Nominal sides of the levels that have self-attention', {
    group: NETWORK,
    unit: 'px',
    min: 1,
    max: 4096,
    minLength: 0,
  }),
  dropout: f.number('Dropout probability in the residual blocks', { group: NETWORK, min: 0, below: 1 }),
  labelDropout: f.number('Probability that a class label is dropped, for classifier-free guidance', {
    group: NETWORK,
    min: 0,
    max: 1,
  }),
  sigmaData: f.numberOrNull(
    'Standard deviation of the data, as preconditioning and loss assume it; auto: as measured for latents, else 0.5',
    { group: NETWORK, above: 0, nullWord: 'auto' },
  ),
  implicitMlp: f.boolean('First layer as a small MLP over pixels and coordinates', { group: NETWORK }),

  realP: f.number('Share of updates on whole images', { group: PATCHES, min: 0, max: 1 }),
  schedule: f.choice(
    'How patch sizes are chosen: drawn for each round, from small to large over the run, all in each update, or drawn with a share of whole images that moves over the run',
    SCHEDULES,
    { group: PATCHES },
  ),
  realPFrom: f.number('Share of updates on whole images at the start, for --schedule annealed', {
    group: PATCHES,
    min: 0,
    max: 1,
  }),
  realPTo: f.number('The same at the end', { group: PATCHES, min: 0, max: 1 }),
  annealing: f.choice('How the share moves from one to the other', ['linear', 'cosine'], { group: PATCHES }),
  patchSizes: f.patchesOrNull(
    'Square patch sides, with or without probabilities; without, the largest has the share --real-p; auto: a quarter, half and whole of the image (half and whole of latents)',
    { group: PATCHES, unit: 'px', nullWord: 'auto' },
  ),
  lossNorm: f.choice('Loss over a patch: sum of the pixels as published, or their mean', ['mean', 'sum'], {
    group: PATCHES,
  }),

  pMean: f.number('Mean of ln σ over the noise levels trained on (edm and pedm)', {
    group: TRAINING,
    min: -20,
    max: 20,
  }),
  pStd: f.number(
    'Standard deviation of ln σ; larger trains more on very noisy images, which decide the layout',
    {
      group: TRAINING,
      above: 0,
      max: 20,
    },
  ),
  durationKimg: f.number('Length of the training, in thousands of images', {
    group: TRAINING,
    unit: 'kimg',
    above: 0,
    aliases: [{ name: 'duration', scale: 1000, unit: 'Mimg' }],
  }),
  maxSec: f.numberOrNull('Stop after this time even when the duration is not reached', {
    group: TRAINING,
    unit: 's',
    above: 0,
    nullWord: 'none',
  }),
  batch: f.int('Images per update at full size', {
    group: TRAINING,
    unit: 'images',
    min: 1,
    max: 1_000_000,
    aliases: [{ name: 'batch-size' }],
  }),
  batchGpu: f.intOrNull('Images at a time; smaller uses less memory; divides the batch', {
    group: TRAINING,
    unit: 'images',
    min: 1,
    nullWord: 'batch',
  }),
  lr: f.number('Learning rate of Adam', {
    group: TRAINING,
    above: 0,
    max: 1,
    aliases: [{ name: 'learning-rate' }],
  }),
  lrRampupKimg: f.number('Linear learning-rate ramp-up', { group: TRAINING, unit: 'kimg', min: 0 }),
  betas: f.numberPair('Decay rates of the moments of Adam', { group: TRAINING, min: 0, below: 1 }),
  adamEps: f.number('Epsilon of Adam', { group: TRAINING, above: 0 }),
  augment: f.number('Probability of each augmentation: flips, scale, rotation, stretch, shift', {
    group: TRAINING,
    min: 0,
    max: 1,
  }),
  augmentAt: f.choice(
    'Augment patches as published, or whole images, which keeps coordinates true',
    ['patch', 'image'],
    {
      group: TRAINING,
    },
  ),
  emaHalflifeKimg: f.number('Half-life of the moving average of the weights', {
    group: TRAINING,
    unit: 'kimg',
    min: 0,
    aliases: [{ name: 'ema', scale: 1000, unit: 'Mimg' }],
  }),
  emaRampupRatio: f.numberOrNull('The half-life is at most this share of the images seen', {
    group: TRAINING,
    above: 0,
    nullWord: 'none',
  }),
  lossScaling: f.numberOrWord(
    'Factor on the loss before back-propagation; dynamic: as large as float16 bears, the default with --precision fp16',
    'dynamic',
    {
      group: TRAINING,
      above: 0,
      aliases: [{ name: 'ls' }],
    },
  ),
  seed: f.int('Random seed; drawn and recorded when not given', {
    group: TRAINING,
    min: 0,
    max: 2 ** 31 - 1,
  }),
  resume: f.pathOrNull(
    'Go on from a run folder or a state file (also an official .pt); alone: the newest run in --out',
    {
      group: TRAINING,
      nullWord: 'none',
      bare: 'newest',
    },
  ),
  transfer: f.pathOrNull(
    'Start from the weights of a run folder or snapshot: .safetensors, official .pkl, an address, or hf:owner/repository/file',
    { group: TRAINING, nullWord: 'none' },
  ),

  out: f.path('Folder that holds the run folders', { group: OUTPUT, aliases: [{ name: 'outdir' }] }),
  desc: f.stringOrNull('Appended to the name of the run folder', { group: OUTPUT, nullWord: 'none' }),
  nosubdir: f.boolean('Write directly into --out', { group: OUTPUT }),
  tickKimg: f.number('Interval of progress lines and statistics', {
    group: OUTPUT,
    unit: 'kimg',
    above: 0,
    aliases: [{ name: 'tick' }, { name: 'kimg-per-tick' }],
  }),
  snapshotTicks: f.intOrNull('Interval of network snapshots', {
    group: OUTPUT,
    unit: 'ticks',
    min: 1,
    nullWord: 'none',
    aliases: [{ name: 'snap' }],
  }),
  stateTicks: f.intOrNull('Interval of complete training states', {
    group: OUTPUT,
    unit: 'ticks',
    min: 1,
    nullWord: 'none',
    aliases: [{ name: 'dump' }],
  }),
  sampleTicks: f.intOrNull('Interval of sample sheets', {
    group: OUTPUT,
    unit: 'ticks',
    min: 1,
    nullWord: 'none',
  }),
  sampleSec: f.numberOrNull('Also draw a sample sheet whenever this much time has passed', {
    group: OUTPUT,
    unit: 's',
    above: 0,
    nullWord: 'none',
  }),
  samples: f.int('Images on a sample sheet', { group: OUTPUT, unit: 'images', min: 1, max: 1024 }),
  sampleChurn: f.number(
    'Added noise (S_churn) for sample sheets, and the default of generate; 0 is deterministic',
    {
      group: OUTPUT,
      min: 0,
    },
  ),
  sampleSteps: f.int('Sampler steps for sample sheets, and the default of generate', {
    group: OUTPUT,
    unit: 'steps',
    min: 1,
    max: 10_000,
  }),

  device: f.string('auto, cpu, cuda, cuda:1 or mps', { group: MACHINE, placeholder: 'name' }),
  precision: f.choice(
    'Precision of the network body; bf16 is about twice as fast where the hardware has it, fp16 needs a GPU',
    PRECISIONS,
    { group: MACHINE },
  ),
  threads: f.intOrNull('CPU threads', { group: MACHINE, min: 1, max: 4096, nullWord: 'auto' }),
};

/** Strict: an unknown key is an error. */
export const TrainOptionsSchema = z.strictObject(trainFields);

/**
 * Resolved options of a training run: every key has its value (null = not set). JSON-writable; made by
 * `resolveTrainOptions`, stored in `run.json` and in each snapshot.
 */
export type TrainOptions = z.infer<typeof TrainOptionsSchema>;

/** What a user writes: any subset of the keys. The rest comes from the preset. */
export type TrainOptionsInput = Partial<TrainOptions>;
