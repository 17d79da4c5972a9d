/** Flags of `prepare`; the library's own schema of them is in `data/prepare-options.ts`. */

import { z } from 'zod';
import type { Transform } from '../data/transform.js';
import { programName } from '../program-name.js';
import * as f from './fields.js';
import { readValues, usageError } from './read-values.js';

/** As a list of its own, so that help pages need not load the image library. */
const TRANSFORMS = [
  'center-crop',
  'center-crop-wide',
  'stretch',
  'none',
] as const satisfies readonly Transform[];

const FILES = 'Files';
const IMAGES = 'Images';
const LATENTS = 'Latents';

export const prepareFields = {
  source: f.path('Folder, zip or idx file of images (or as the argument)', { group: FILES }),
  out: f.path('Zip to write, or a folder when it does not end in .zip; latents: a .safetensors file', {
    group: FILES,
    aliases: [{ name: 'dest' }],
  }),
  force: f.boolean('Replace what is there already', { group: FILES }),
  resolution: f.sizeOrNull('Side, or width and height, of the result', {
    group: IMAGES,
    unit: 'px',
    min: 1,
    max: 16_384,
    nullWord: 'auto',
  }),
  transform: f.choice('How images of other proportions are fitted', TRANSFORMS, { group: IMAGES }),
  channels: f.numberChoiceOrNull('Colour channels: 1 grey, 3 RGB, 4 RGB and transparency', [1, 3, 4], {
    group: IMAGES,
    nullWord: 'auto',
  }),
  maxImages: f.intOrNull('Only the first so many images', {
    group: IMAGES,
    unit: 'images',
    min: 1,
    nullWord: 'all',
  }),
  labels: f.boolOrAuto('Class labels from sub-folders or dataset.json', { group: IMAGES }),
  strict: f.boolean('Fail at the first unreadable image instead of skipping it', { group: IMAGES }),
  latents: f.boolean('Encode the images with an autoencoder and write latents', { group: LATENTS }),
  autoencoder: f.pathOrNull('Folder with config.json and weights as in diffusers, such as sd-vae-ft-ema', {
    group: LATENTS,
    nullWord: 'none',
  }),
  xflip: f.boolean('Encode a mirrored copy of every image, too, for train --xflip', { group: LATENTS }),
  latentDtype: f.choice('Precision of the stored latents', ['float16', 'float32'], { group: LATENTS }),
  encodeBatch: f.intOrNull('Images at a time; auto: what takes about 1.5 GB', {
    group: LATENTS,
    unit: 'images',
    min: 1,
    nullWord: 'auto',
  }),
  device: f.string('auto, cpu, cuda, cuda:1 or mps', { group: LATENTS, placeholder: 'name' }),
};

const schema = z.strictObject(prepareFields);

export const prepareDefaults = {
  force: false,
  resolution: null,
  transform: 'center-crop',
  channels: null,
  maxImages: null,
  labels: 'auto',
  strict: false,
  latents: false,
  autoencoder: null,
  xflip: false,
  latentDtype: 'float16',
  encodeBatch: null,
  device: 'auto',
} as const satisfies Partial<z.infer<typeof schema>>;

/** Checks the flags. @throws {UserError} (exit code 2) naming the option, its value and what is allowed */
export function resolvePrepareFlags(flags: Readonly<Record<string, unknown>>): z.infer<typeof schema> {
  const given = readValues(prepareFields, flags, { kind: 'flag' });
  if (given.source === undefined) {
    throw usageError(
      'MISSING_SOURCE',
      `no images given; add a folder or zip: ${programName()} prepare ./photos --out photos.zip`,
    );
  }
  if (given.out === undefined) {
    throw usageError('MISSING_OUT', 'no output given; add --out, for example --out photos-64.zip');
  }
  return schema.parse({ ...prepareDefaults, ...given });
}
