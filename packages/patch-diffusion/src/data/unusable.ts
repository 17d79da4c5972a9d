/** What is said where images cannot be used. */
import { UserError } from '../common/errors.js';
import type { SkippedFile } from './types.js';

/** The first file that cannot be used, where the user wants to be stopped by it. */
export function strictError(path: string, file: string, reason: string): UserError {
  return new UserError(
    'DATA_UNUSABLE',
    `${file} in ${path}: ${reason}; remove or fix it, or leave out --strict`,
  );
}

/** No image is left. */
export function nothingUsable(path: string, skipped: readonly SkippedFile[]): UserError {
  const example = skipped[0] ? ` (such as ${skipped[0].file}: ${skipped[0].reason})` : '';
  return new UserError('DATA_EMPTY', `None of the images in ${path} can be used${example}; check the files`);
}

/** Images whose places others may take in any set; beyond that, at most a tenth of them. */
const FEW = 10;

/** @throws UserError when so many of a set's images cannot be used that it is no longer the same set */
export function checkMostUsable(path: string, unusable: number, count: number, reason: string): void {
  if (unusable <= Math.max(FEW, count / 10)) return;
  throw new UserError(
    'DATA_DAMAGED',
    `More than a tenth of the images in ${path} cannot be used (such as: ${reason}); make this dataset again with \`prepare\``,
  );
}
