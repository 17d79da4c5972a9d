/** Errors for people; everything else is a fault of the reader. */
import { SafetensorsError } from '@patch-diffusion/torch';
import { UserError } from 'patch-diffusion';
import { UnusableImage } from '../../../packages/patch-diffusion/dist/data/decode.js';

export const isExpected = (error: unknown): boolean =>
  [UserError, SafetensorsError, UnusableImage].some((kind) => error instanceof kind);
