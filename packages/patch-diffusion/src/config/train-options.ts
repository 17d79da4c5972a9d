/**
 * The options of a training run: one list for the command line, config files, presets and library calls.
 * Names are camelCase here, kebab-case as flags; names of the official trainer are aliases with their own
 * meaning and unit (spec: published option table of Patch Diffusion, arXiv 2304.12526).
 */

import { DEFAULT_SIGMA_DATA, EDM_NOISE } from '../diffusion/noise-levels.js';
import { PRECISION_CHOICES } from '../diffusion/precision.js';
import { PLAIN_SAMPLERS } from '../diffusion/samplers/index.js';
import { ARCHITECTURES, type Architecture } from '../networks/architectures.js';
import { SCHEDULES } from '../patches/schedule.js';
import { METRICS } from './evaluate-options.js';
import * as f from './fields.js';

/** Name of the preset that fills in what nobody gives. */
export const DEFAULT_PRESET = 'small';

/** Fields of {@link TrainOptions}, in the order of the help page. Those without a default differ between presets. */
export const trainFields = {
  ...f.under('Data', {
    data: f.path('Folder or zip of images'),
    resolution: f.size(
      'Side, or width and height, to which images are cropped and resized; auto: as prepared, else that of the preset',
      { unit: 'px', min: 16, max: 4096, nullWord: 'auto' },
    ),
    channels: f.choice('Colour channels: 1 grey, 3 RGB, 4 RGB and transparency', [1, 3, 4], {
      nullWord: 'auto',
    }),
    cond: f.booleanOrAuto('Train on class labels; auto: where the data has them', { default: false }),
    xflip: f.boolean('Add a mirrored copy of every image', { default: false }),
    maxImages: f.int('Use at most this many images, chosen by the seed', {
      unit: 'images',
      min: 1,
      nullWord: 'all',
    }),
    order: f.choice(
      'Order of the images: an endless sliding-window shuffle, as published, or each image once per epoch',
      ['window', 'epochs'],
      { default: 'window' },
    ),
    holdout: f.int('Images kept from training, for a held-out loss', { unit: 'images', min: 0, default: 0 }),
    cacheImages: f.boolean(
      'Keep the decoded images of a folder or zip that is not prepared in the cache folder, so that the next training on it starts at once',
      { default: true },
    ),
    strict: f.boolean('Fail at the first unreadable image instead of skipping it', { default: false }),
    latents: f.booleanOrAuto('Train on latents; auto: when the data is a file of `prepare --latents`', {
      aliases: [{ name: 'train-on-latents' }],
      default: 'auto',
    }),
    autoencoder: f.path('Folder of the autoencoder that turns sampled latents into images', {
      nullWord: 'recorded',
    }),
  }),

  ...f.under('Network', {
    preset: f.string('Set of defaults: tiny, small, celeba-64, ffhq-64, afhqv2-64, lsun-256, imagenet-256', {
      placeholder: 'name',
      default: DEFAULT_PRESET,
    }),
    arch: f.choice('Network architecture', Object.keys(ARCHITECTURES) as Architecture[], {
      default: 'ddpmpp',
    }),
    precond: f.choice('Preconditioning and loss', ['pedm', 'edm', 'vp', 've'], { default: 'pedm' }),
    modelChannels: f.int('Base width of the network', {
      unit: 'channels',
      min: 4,
      max: 4096,
      aliases: [{ name: 'cbase' }],
    }),
    channelMult: f.ints('Width of each level, as multiples of the base width', {
      min: 1,
      max: 64,
      aliases: [{ name: 'cres' }],
    }),
    numBlocks: f.int('Residual blocks per level', { unit: 'blocks', min: 1, max: 32 }),
    attnResolutions: f.ints('Nominal sides of the levels that have self-attention', {
      unit: 'px',
      min: 1,
      max: 4096,
      minLength: 0,
    }),
    dropout: f.number('Dropout probability in the residual blocks', { min: 0, below: 1 }),
    labelDropout: f.number('Probability that a class label is dropped, for classifier-free guidance', {
      min: 0,
      max: 1,
      default: 0,
    }),
    sigmaData: f.number(
      'Standard deviation of the data, as preconditioning and loss assume it; auto: as measured for latents, else 0.5',
      { above: 0, nullWord: 'auto', default: DEFAULT_SIGMA_DATA },
    ),
    implicitMlp: f.boolean('First layer as a small MLP over pixels and coordinates', { default: false }),
  }),

  ...f.under('Patches', {
    realP: f.number(
      'Probability of whole images; progressive: their share of the run; stratified: their weight in each update',
      { min: 0, max: 1, default: 0.5 },
    ),
    schedule: f.choice(
      'How patch sizes are chosen: drawn at random (stochastic), from small to large over the run (progressive), all in each update (stratified), or drawn with a probability of whole images that changes over the run (annealed)',
      SCHEDULES,
      { default: 'stochastic' },
    ),
    realPFrom: f.number('Probability of whole images at the start, for --schedule annealed', {
      min: 0,
      max: 1,
      default: 0.1,
    }),
    realPTo: f.number('The same at the end', { min: 0, max: 1, default: 0.7 }),
    annealing: f.choice('How the probability changes from start to end', ['linear', 'cosine'], {
      default: 'linear',
    }),
    annealingShare: f.number('Share of the run over which it changes; afterwards it stays at --real-p-to', {
      above: 0,
      max: 1,
      default: 1,
    }),
    patchSizes: f.patches(
      'Square patch sides, with or without probabilities; without, the largest has --real-p; auto: a quarter, half and whole of the image (half and whole of latents)',
      { unit: 'px', nullWord: 'auto' },
    ),
    sizesByNoise: f.boolean(
      'Train small patches on the low noise levels, where they lack little against whole images, and whole images on the high ones, as the losses so far tell; each size keeps its share (pedm)',
      { default: false },
    ),
    rankSizes: f.choice(
      'With several processes: all train on the same patch sizes at the same time, so that none waits for another (shared), or each draws its own, as in the official trainer (independent)',
      ['shared', 'independent'],
      { default: 'shared' },
    ),
    lossNorm: f.choice('Loss over a patch: sum of the pixels as published, or their mean', ['mean', 'sum']),
  }),

  ...f.under('Training', {
    objective: f.choice(
      'What is learnt: denoising; or ect, which tunes a trained network (--transfer) to samples in two steps (Easy Consistency Tuning; edm and pedm)',
      ['denoising', 'ect'],
      { default: 'denoising' },
    ),
    pMean: f.number('Mean of ln σ over the noise levels trained on (edm and pedm)', {
      min: -20,
      max: 20,
      default: EDM_NOISE.pMean,
    }),
    pStd: f.number(
      'Standard deviation of ln σ; a larger one trains more on very noisy images, which decide the layout',
      { above: 0, max: 20, default: EDM_NOISE.pStd },
    ),
    sigmaSampling: f.choice(
      'Noise levels trained on (edm and pedm): log-normal as published, or where they tell most about the data, from the losses so far, for each patch size (info)',
      ['lognormal', 'info'],
      { default: 'lognormal' },
    ),
    lossWeights: f.choice(
      'Weight of the noise levels in the loss: that of EDM, or such that all levels and patch sizes contribute alike, as the uncertainty of EDM2 does, from the losses so far (even; edm and pedm)',
      ['edm', 'even'],
      { default: 'edm' },
    ),
    stratify: f.boolean(
      'Spread noise levels, positions and drawn patch sizes evenly over each update instead of drawing each for itself; the gradient varies less',
      { default: false },
    ),
    immiscible: f.int(
      'Candidates of which each whole image gets the noise that lies furthest in its direction, patches theirs of it, until the learning rate cools down (Immiscible Diffusion; 4 is usual); figures of the training loss are then lower by construction',
      { unit: 'candidates', min: 1, max: 256, nullWord: 'none' },
    ),
    durationKimg: f.number('Length of the training, in thousands of images', {
      unit: 'kimg',
      above: 0,
      aliases: [{ name: 'duration', scale: 1000, unit: 'Mimg' }],
    }),
    maxSec: f.number(
      'Stop after this time even when the duration is not reached; resumed with a new limit, that much later',
      { unit: 's', above: 0, nullWord: 'none' },
    ),
    maxCpuSec: f.number(
      'The same for processor time of training updates (of one process); sampling and saving do not count',
      { unit: 's', above: 0, nullWord: 'none' },
    ),
    batch: f.int('Images per update at full size', {
      unit: 'images',
      min: 1,
      max: 1_000_000,
      aliases: [{ name: 'batch-size' }],
    }),
    batchGpu: f.int(
      'Images at a time, of all processes together; a smaller number uses less memory; divides the batch',
      {
        unit: 'images',
        min: 1,
        nullWord: 'batch',
      },
    ),
    optimizer: f.choice(
      'adam, or muon: orthogonal updates for the weights of the blocks, Adam for the rest, at the same learning rate',
      ['adam', 'muon'],
      { default: 'adam' },
    ),
    lr: f.number('Learning rate', { above: 0, max: 1, aliases: [{ name: 'learning-rate' }] }),
    lrRampupKimg: f.number('Linear learning-rate ramp-up', { unit: 'kimg', min: 0 }),
    lrCooldown: f.number(
      'Share of the run at its end, by images or time, over which the learning rate falls to 0',
      { min: 0, max: 1, default: 0 },
    ),
    betas: f.numberPair('Decay rates of the moments of Adam', {
      min: 0,
      below: 1,
      example: '0.9,0.999',
      default: [0.9, 0.999],
    }),
    adamEps: f.number('Epsilon of Adam', { above: 0, default: 1e-8 }),
    augment: f.number('Probability of each augmentation: flips, scale, rotation, stretch, shift', {
      min: 0,
      max: 1,
      default: 0,
    }),
    augmentAt: f.choice(
      'Augment patches as published, or whole images, which keeps coordinates true',
      ['patch', 'image'],
      { default: 'patch' },
    ),
    emaHalflifeKimg: f.number('Half-life of the moving average of the weights', {
      unit: 'kimg',
      min: 0,
      aliases: [{ name: 'ema', scale: 1000, unit: 'Mimg' }],
    }),
    emaRampupRatio: f.number('The half-life is at most this share of the images seen', {
      above: 0,
      nullWord: 'none',
      default: 0.05,
    }),
    powerEma: f.boolean(
      'Also store power-function averages of the weights with each snapshot, of which `ema` makes an average of any length',
      { default: false },
    ),
    lossScaling: f.numberOrWord(
      'Factor on the loss before back-propagation; dynamic: the largest that float16 can hold, the default with --precision fp16',
      'dynamic',
      { above: 0, aliases: [{ name: 'ls' }], default: 1 },
    ),
    seed: f.int('Random seed; drawn and recorded when not given', { min: 0, max: 2 ** 31 - 1 }),
    resume: f.path(
      'Continue a run from its folder or a state file (also an official .pt); alone: the newest run in --out',
      { nullWord: 'none', bare: 'newest' },
    ),
    allowDataChange: f.boolean(
      'Resume although the number of images has changed; their order begins anew, and held-out ones are chosen anew',
      { default: false },
    ),
    transfer: f.path(
      'Start from the weights of a run folder or snapshot: .safetensors, official .pkl, an address, hf:owner/repository/file, or a network that comes along, such as avatars-32',
      { nullWord: 'none' },
    ),
  }),

  ...f.under('Output and progress', {
    out: f.path('Folder that holds the run folders', { aliases: [{ name: 'outdir' }], default: 'runs' }),
    desc: f.string('Appended to the name of the run folder', { nullWord: 'none' }),
    nosubdir: f.boolean('Write directly into --out', { default: false }),
    tensorboard: f.boolean('Write statistics and sample sheets as TensorBoard event files, too', {
      default: false,
    }),
    csv: f.boolean('Write statistics and evaluations as tables (stats.csv, evaluations.csv), too', {
      default: false,
    }),
    tickKimg: f.number('Interval of progress lines and statistics', {
      unit: 'kimg',
      above: 0,
      aliases: [{ name: 'tick' }, { name: 'kimg-per-tick' }],
    }),
    snapshotTicks: f.int('Interval of network snapshots', {
      unit: 'ticks',
      min: 1,
      nullWord: 'none',
      aliases: [{ name: 'snap' }],
    }),
    snapshotSec: f.number('Also write a state and a snapshot whenever this much time has passed', {
      unit: 's',
      above: 0,
      nullWord: 'none',
    }),
    keep: f.int(
      'Newest snapshots that are kept, beside one from the first eighth of the run, to guide by (generate --guide)',
      { unit: 'snapshots', min: 1, nullWord: 'all' },
    ),
    keepBest: f.boolean('Of the snapshots that --keep removes, keep the one with the lowest held-out loss', {
      default: false,
    }),
    stateTicks: f.int('Interval of complete training states', {
      unit: 'ticks',
      min: 1,
      nullWord: 'none',
      aliases: [{ name: 'dump' }],
    }),
    sampleTicks: f.int('Interval of sample sheets', {
      unit: 'ticks',
      min: 1,
      nullWord: 'none',
      default: 1,
    }),
    sampleSec: f.number('Also draw a sample sheet whenever this much time has passed', {
      unit: 's',
      above: 0,
      nullWord: 'none',
    }),
    samples: f.int('Images on a sample sheet', { unit: 'images', min: 1, max: 1024, default: 16 }),
    sampler: f.choice('Sampler for sample sheets, and the default of generate', PLAIN_SAMPLERS, {
      default: 'edm',
    }),
    sampleChurn: f.number(
      'Added noise (S_churn) for sample sheets, and the default of generate; 0 is deterministic',
      { min: 0, default: 0 },
    ),
    sampleSteps: f.int('Sampler steps for sample sheets, and the default of generate', {
      unit: 'steps',
      min: 1,
      max: 10_000,
    }),
  }),

  ...f.under('Evaluation while training', {
    evalTicks: f.int(
      'Interval of evaluations, with a snapshot each; the best snapshot is marked and kept (generate --snapshot best)',
      { unit: 'ticks', min: 1, nullWord: 'none' },
    ),
    evalMetrics: f.choices('Figures, as for evaluate --metrics; auto: loss', METRICS, { nullWord: 'auto' }),
    evalCount: f.int('Samples for the figures that need some', { unit: 'images', min: 2, default: 256 }),
    evalImages: f.int('Images for the loss at most', { unit: 'images', min: 2, default: 128 }),
    evalFeatures: f.choice('Features, as for evaluate --features', ['classifier', 'inception'], {
      nullWord: 'none',
    }),
    evalInceptionWeights: f.path('Weights of the Inception of FID', { nullWord: 'none' }),
    stopOnMemorising: f.boolean(
      'End the run when it memorises: the loss on held-out images is more than 3 % above that on training images and has risen against it over three evaluations, or samples are copies (--eval-metrics memorisation)',
      { default: false },
    ),
  }),

  ...f.under('Machine', {
    device: f.device(),
    precision: f.choice(
      'Precision of the network body; auto: bf16 where the hardware is faster in it, else fp32; fp16 needs a GPU',
      PRECISION_CHOICES,
      { default: 'fp32' },
    ),
    cudaGraphs: f.boolean(
      'On an NVIDIA GPU, repeat forward and backward as CUDA graphs, one for each patch size (in one process)',
      { default: true },
    ),
    threads: f.threads(),
  }),
};

/**
 * Resolved options of a training run: every key has its value (null = not set). JSON-writable; made by
 * `resolveTrainOptions`, stored in `run.json` and in each snapshot.
 */
export type TrainOptions = f.Values<typeof trainFields>;

/** What a user writes: any subset of the keys. The rest comes from the preset. */
export type TrainOptionsInput = Partial<TrainOptions>;
