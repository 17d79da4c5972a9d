/** Options of `prepare`, checked in one place for the command line and the library. */
import { z } from 'zod';
import { TRANSFORMS } from './transform.js';

const side = z.number().int().min(1).max(16384);

export const prepareOptionsSchema = z.strictObject({
  /** Folder, zip or idx file to read. */
  source: z.string().min(1),
  /** Zip to write, or a folder if it does not end in `.zip`. */
  out: z.string().min(1),
  /** Side, or width and height, in pixels. Default: as the images are, which must then all have one size. */
  resolution: z.union([side, z.object({ width: side, height: side })]).optional(),
  /** Default `center-crop`. */
  transform: z.enum(TRANSFORMS).default('center-crop'),
  /** 1 (grey) or 3 (RGB). Default: 1 if all images are grey, else 3. */
  channels: z.union([z.literal(1), z.literal(3)]).optional(),
  /** Only the first so many images. */
  maxImages: z.number().int().min(1).optional(),
  /** Default `auto`: keep labels if every image has one. */
  labels: z.union([z.literal('auto'), z.boolean()]).default('auto'),
  /** Stop at the first image that cannot be used, instead of leaving it out. */
  strict: z.boolean().default(false),
  /** Replace a dataset that is there already. */
  force: z.boolean().default(false),
});

export type PrepareOptions = z.input<typeof prepareOptionsSchema>;
export type PrepareSettings = z.output<typeof prepareOptionsSchema>;

/** `64`, `96x64` or `96,64` (width first) as a resolution, or null if it is none of these. */
export function parseResolution(text: string): number | { width: number; height: number } | null {
  const match = /^\s*(\d{1,5})(?:\s*[x×,]\s*(\d{1,5}))?\s*$/i.exec(text);
  if (match === null) return null;
  return match[2] === undefined ? Number(match[1]) : { width: Number(match[1]), height: Number(match[2]) };
}
