/** Options of `prepare`, checked in one place for the command line and the library. */
import { z } from 'zod';
import { TRANSFORMS } from './transform.js';

const side = z.number().int().min(1).max(16384);

export const prepareOptionsSchema = z.strictObject({
  /** Folder, zip or idx file to read. */
  source: z.string().min(1),
  /** Zip to write, or a folder if it does not end in `.zip`; with `latents` a `.safetensors` file. */
  out: z.string().min(1),
  /** Side, or width and height, in pixels. Default: as the images are, which must then all have one size. */
  resolution: z.union([side, z.object({ width: side, height: side })]).optional(),
  /** Default `center-crop`. */
  transform: z.enum(TRANSFORMS).default('center-crop'),
  /** 1 (grey), 3 (RGB, transparency laid over white) or 4 (RGB and alpha). Default: 1 if all images are grey, else 3. */
  channels: z.union([z.literal(1), z.literal(3), z.literal(4)]).optional(),
  /** Only the first so many images. */
  maxImages: z.number().int().min(1).optional(),
  /** Default `auto`: keep labels if every image has one. */
  labels: z.union([z.literal('auto'), z.boolean()]).default('auto'),
  /** Stop at the first image that cannot be used, instead of leaving it out. */
  strict: z.boolean().default(false),
  /** Replace a dataset that is there already. */
  force: z.boolean().default(false),
  /** Write latents instead of images. */
  latents: z.boolean().default(false),
  /** Folder of the autoencoder, for `latents`. */
  autoencoder: z.string().min(1).optional(),
  /** Encode a mirrored copy of each image, too. Images need none: training mirrors them itself. */
  xflip: z.boolean().default(false),
  /** Precision of the stored latents. Default `float16`, whose error is far below that of the autoencoder. */
  latentDtype: z.enum(['float16', 'float32']).default('float16'),
  /** Images at a time through the autoencoder. Default: so many that Stable Diffusion’s takes about 1.5 GB. */
  encodeBatch: z.number().int().min(1).optional(),
  /** Where the autoencoder runs: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`. */
  device: z.string().min(1).default('auto'),
});

export type PrepareOptions = z.input<typeof prepareOptionsSchema>;
export type PrepareSettings = z.output<typeof prepareOptionsSchema>;
