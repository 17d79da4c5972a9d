/** Options of `prepare`: one schema for flags, config files and the library. */

import { z } from 'zod';
import { programName } from '../common/program-name.js';
import type { Transform } from '../data/transform.js';
import * as f from './fields.js';
import { type Origin, readValues, usageError } from './read-values.js';

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

const PrepareOptionsSchema = z.strictObject(prepareFields);

/** All options of `prepare`, complete and checked. */
export type PrepareOptions = z.infer<typeof PrepareOptionsSchema>;

/** What a caller gives; {@link prepareDefaults} has the rest. */
export type PrepareOptionsInput = Partial<PrepareOptions> & Pick<PrepareOptions, 'source' | 'out'>;

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
} as const satisfies Partial<PrepareOptions>;

/**
 * Resolves and checks the options of `prepare`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolvePrepareOptions(sources: {
  readonly file?: { readonly name: string; readonly values: Readonly<Record<string, unknown>> };
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly call?: Readonly<Record<string, unknown>>;
}): PrepareOptions {
  const given: Record<string, unknown> = {};
  const read = (values: Readonly<Record<string, unknown>> | undefined, origin: Origin): void => {
    if (values !== undefined) Object.assign(given, readValues(prepareFields, values, origin));
  };
  read(sources.file?.values, { kind: 'file', file: sources.file?.name ?? '' });
  read(sources.call, { kind: 'call' });
  read(sources.flags, { kind: 'flag' });
  if (given.source === undefined) {
    throw usageError(
      'MISSING_SOURCE',
      `no images given; add a folder or zip: ${programName()} prepare ./photos --out photos.zip`,
    );
  }
  if (given.out === undefined) {
    throw usageError('MISSING_OUT', 'no output given; add --out, for example --out photos-64.zip');
  }
  const options = PrepareOptionsSchema.parse({ ...prepareDefaults, ...given });
  checkTransform(options);
  checkLatents(options);
  return options;
}

function checkTransform({ transform, resolution }: PrepareOptions): void {
  if (transform !== 'center-crop-wide' && transform !== 'stretch') return;
  if (resolution === null) {
    throw usageError('BAD_OPTION', `--transform ${transform} needs a --resolution, such as 256x192`);
  }
  const isWide = typeof resolution === 'number' || resolution.width >= resolution.height;
  if (transform === 'center-crop-wide' && !isWide) {
    throw usageError(
      'BAD_OPTION',
      '--transform center-crop-wide needs a --resolution that is wider than high, such as 256x192',
    );
  }
}

function checkLatents({ latents, autoencoder, xflip, out }: PrepareOptions): void {
  if (!latents && xflip) {
    throw usageError(
      'BAD_OPTION',
      '--xflip is for --latents only: images are mirrored by `train --xflip`; leave it out',
    );
  }
  if (!latents && autoencoder !== null) {
    throw usageError('BAD_OPTION', '--autoencoder is for --latents only; add --latents, or leave it out');
  }
  if (!latents) return;
  if (autoencoder === null) {
    throw usageError(
      'BAD_OPTION',
      '--latents needs --autoencoder FOLDER, such as a copy of stabilityai/sd-vae-ft-ema',
    );
  }
  if (!/\.safetensors$/i.test(out)) {
    throw usageError('BAD_OPTION', `--out ${out}: latents are written to a .safetensors file; call it so`);
  }
}
