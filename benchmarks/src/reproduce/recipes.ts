/** The recipes that are compared: names for sets of options of `train`, on top of the preset `tiny`. */
import type { TrainOptionsInput } from 'patch-diffusion';

/** A way to train. */
export interface Recipe {
  readonly summary: string;
  /**
   * `whole`: whole images, the side to beat; of several, the one with the best final loss is the baseline. `patches`: random
   * patches. `pytorch`: the published recipe, run by eager float32 PyTorch (benchmarks/peer/train.py).
   */
  readonly kind: 'whole' | 'patches' | 'pytorch';
  /** What it has beyond the paper that whole images can have as well; such whole images are no baseline of the others. */
  readonly extras?: string;
  readonly options: TrainOptionsInput;
}

/** What all recipes have unless they say otherwise: Adam, the same averaging, and a linear cooldown at the end. */
const common = { optimizer: 'adam', lrCooldown: 0.2 } satisfies TrainOptionsInput;

/** Whole images: no coordinates are needed, but the network keeps them, so that both sides have the same one. */
function whole(batch: number, lr: number, optimizer: 'adam' | 'muon' = 'adam'): Recipe {
  const options: TrainOptionsInput = { ...common, batch, lr, optimizer, realP: 1, schedule: 'stochastic' };
  const summary = `whole images, batch ${batch}, learning rate ${lr}`;
  if (optimizer === 'adam') return { kind: 'whole', summary, options };
  return { kind: 'whole', summary: `${summary}, Muon`, extras: 'Muon', options };
}

function patches(summary: string, options: TrainOptionsInput): Recipe {
  const extras = options.optimizer === 'muon' ? { extras: 'Muon' } : {};
  return { kind: 'patches', summary, ...extras, options: { ...common, ...options } };
}

const published = {
  batch: 16,
  schedule: 'stochastic',
  realP: 0.5,
  lossNorm: 'sum',
} satisfies TrainOptionsInput;
const annealed = { schedule: 'annealed', realPFrom: 0.05, realPTo: 1 } satisfies TrainOptionsInput;

export const recipes = {
  'whole-b4': whole(4, 1e-3),
  'whole-b8': whole(8, 1e-3),
  'whole-b16': whole(16, 1e-3),
  'whole-b8-lr5e-4': whole(8, 5e-4),
  'whole-b8-lr2e-3': whole(8, 2e-3),
  'whole-b8-muon': whole(8, 1e-3, 'muon'),
  'whole-b8-muon-lr2e-3': whole(8, 2e-3, 'muon'),
  'whole-b16-muon': whole(16, 1e-3, 'muon'),
  published: patches('as published: sizes at random, p = 0.5, sum over pixels', published),
  mean: patches('as published, but the mean over pixels', { ...published, lossNorm: 'mean' }),
  'p-0.1': patches('mean over pixels, p = 0.1', { batch: 8, schedule: 'stochastic', realP: 0.1 }),
  'p-0.25': patches('mean over pixels, p = 0.25', { batch: 8, schedule: 'stochastic', realP: 0.25 }),
  stratified: patches('all sizes in every update, p = 0.5', { batch: 8, schedule: 'stratified' }),
  annealed: patches('whole images from 5 % to all of the updates', { batch: 8, ...annealed }),
  'annealed-b4': patches('the same, batch 4', { batch: 4, ...annealed }),
  'annealed-b16': patches('the same, batch 16', { batch: 16, ...annealed }),
  'annealed-muon': patches('annealed, Muon', { batch: 8, ...annealed, optimizer: 'muon' }),
  'annealed-muon-lr2e-3': patches('annealed, Muon, learning rate 0.002', {
    ...{ batch: 8, ...annealed, optimizer: 'muon', lr: 2e-3 },
  }),
  'annealed-early-muon': patches('annealed over the first 40 %, then whole images; Muon', {
    ...{ batch: 8, ...annealed, annealingShare: 0.4, optimizer: 'muon' },
  }),
  'annealed-b16-muon': patches('annealed, batch 16, Muon', { batch: 16, ...annealed, optimizer: 'muon' }),
  'annealed-by-noise-muon': patches('annealed, sizes by noise level, Muon', {
    ...{ batch: 8, ...annealed, sizesByNoise: true, optimizer: 'muon' },
  }),
  'annealed-muon-immiscible': patches('annealed, Muon, of 4 noises the one in the direction of the image', {
    ...{ batch: 8, ...annealed, optimizer: 'muon', immiscible: 4 },
  }),
  'by-noise-muon': patches('p = 0.5, sizes by noise level, Muon', {
    ...{ batch: 8, schedule: 'stochastic', realP: 0.5, sizesByNoise: true, optimizer: 'muon' },
  }),
  'transfer-muon': {
    ...patches('annealed, Muon, from the weights of the ready-made network avatars-32', {
      ...{ batch: 8, ...annealed, optimizer: 'muon', transfer: 'avatars-32' },
    }),
    extras: 'Muon and weights',
  },
  'published-pytorch': {
    kind: 'pytorch',
    summary: 'as published, eager float32 PyTorch',
    options: { ...common, ...published },
  },
} as const satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;
export const recipeNames = Object.keys(recipes) as RecipeName[];
