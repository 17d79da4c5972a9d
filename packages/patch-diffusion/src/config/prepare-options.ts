/** Options of `prepare`: one list for flags, config files and the library. */

import { usageError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import { TRANSFORMS } from '../data/types.js';
import * as f from './fields.js';
import { type OptionSources, readSources, withDefaults } from './read-values.js';

/** Fields of {@link PrepareOptions}, in the order of the help page. */
export const prepareFields = {
  ...f.under('Files', {
    source: f.path('Folder, zip or idx file of images (or as the argument)'),
    out: f.path('Zip to write, or a folder when it does not end in .zip; latents: a .safetensors file', {
      aliases: [{ name: 'dest' }],
    }),
    force: f.boolean('Replace what is there already', { default: false }),
  }),
  ...f.under('Images', {
    resolution: f.size('Side, or width and height, of the result', {
      unit: 'px',
      min: 1,
      max: 16_384,
      nullWord: 'auto',
    }),
    transform: f.choice('How images of other proportions are fitted', TRANSFORMS, { default: 'center-crop' }),
    channels: f.choice('Colour channels: 1 grey, 3 RGB, 4 RGB and transparency', [1, 3, 4], {
      nullWord: 'auto',
    }),
    maxImages: f.int('Only the first so many images', { unit: 'images', min: 1, nullWord: 'all' }),
    labels: f.booleanOrAuto('Class labels from sub-folders or dataset.json', { default: 'auto' }),
    strict: f.boolean('Fail at the first unreadable image instead of skipping it', { default: false }),
  }),
  ...f.under('Latents', {
    latents: f.boolean('Encode the images with an autoencoder and write latents', { default: false }),
    autoencoder: f.path('Folder with config.json and weights as in diffusers, such as sd-vae-ft-ema', {
      nullWord: 'none',
    }),
    xflip: f.boolean('Encode a mirrored copy of every image, too, for train --xflip', { default: false }),
    latentDtype: f.choice('Precision of the stored latents', ['float16', 'float32'], { default: 'float16' }),
    encodeBatch: f.int('Images at a time; auto: what takes about 1.5 GB', {
      unit: 'images',
      min: 1,
      nullWord: 'auto',
    }),
    device: f.device(),
  }),
};

/** All options of `prepare`, complete and checked. */
export type PrepareOptions = f.Values<typeof prepareFields>;

/** What a caller gives; the rest has defaults. */
export type PrepareOptionsInput = Partial<PrepareOptions> & Pick<PrepareOptions, 'source' | 'out'>;

/**
 * Resolves and checks the options of `prepare`.
 *
 * @throws {UserError} (exit code 2) naming the option, its value and what is allowed
 */
export function resolvePrepareOptions(sources: OptionSources): PrepareOptions {
  const given = readSources(prepareFields, sources);
  if (given.source === undefined) {
    throw usageError(
      'MISSING_SOURCE',
      `no images given; add a folder or zip: ${programName()} prepare ./photos --out photos.zip`,
    );
  }
  if (given.out === undefined) {
    throw usageError('MISSING_OUT', 'no output given; add --out, for example --out photos-64.zip');
  }
  const options = withDefaults(prepareFields, given);
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
