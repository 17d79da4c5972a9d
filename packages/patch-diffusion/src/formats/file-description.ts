/**
 * What our safetensors files (snapshots, states, latents) say of themselves: JSON in the header's metadata. Reading it
 * needs no libtorch.
 */
import { verifySafetensors } from '@patch-diffusion/torch/safetensors-checksum';
import {
  readSafetensorsHeader,
  SafetensorsError,
  type SafetensorsHeader,
} from '@patch-diffusion/torch/safetensors-header';
import type { z } from 'zod';
import { UserError } from '../common/errors.js';
import { lfsPointerErrorOf } from './lfs-pointer.js';

/** Key of the description in a file's metadata. */
export const METADATA_KEY = 'patch_diffusion';

/** Reads the header of a safetensors file. @throws UserError when the file is missing, damaged or something else */
export function readTensorHeader(file: string): SafetensorsHeader {
  return asUserError(() => readSafetensorsHeader(file));
}

/**
 * Compares a snapshot or state with the checksum in it; files of earlier versions have none and pass.
 * @throws UserError when it is damaged
 */
export async function checkContents(file: string): Promise<void> {
  try {
    await verifySafetensors(file);
  } catch (cause) {
    if (!(cause instanceof SafetensorsError)) throw cause;
    throw new UserError('BAD_TENSOR_FILE', `${cause.message}; use an earlier one, or a copy`, { cause });
  }
}

/**
 * Whether an error of reading one of our files says that the file is damaged; not one that cannot be read at all, or is
 * of a later version.
 */
export function isDamage(error: unknown): boolean {
  if (!(error instanceof UserError)) return false;
  if (error.cause instanceof SafetensorsError) return error.cause.code !== 'unreadable';
  return ['BAD_TENSOR_FILE', 'BAD_CHECKPOINT', 'NOT_A_STATE', 'NOT_A_SNAPSHOT'].includes(error.code);
}

/** Runs `read`; what is wrong with a safetensors file becomes an error for people. */
export function asUserError<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof SafetensorsError)) throw cause;
    throw lfsPointerErrorOf(cause.file) ?? new UserError('BAD_TENSOR_FILE', cause.message, { cause });
  }
}

/** The JSON object under {@link METADATA_KEY}, or an empty one. */
export function readMetadata(
  { metadata }: { readonly metadata: Readonly<Record<string, string>> },
  file: string,
): object {
  const text = metadata[METADATA_KEY];
  if (text === undefined) return {};
  try {
    return Object(JSON.parse(text)) as object;
  } catch (cause) {
    throw new UserError(
      'BAD_TENSOR_FILE',
      `${file}: the description in its header is damaged; use another file`,
      { cause },
    );
  }
}

/**
 * Checks a value from a file field by field.
 * @param what begins the message, before the field's name: `net.safetensors: the network's argument`
 * @param remedy ends it
 * @throws UserError naming the first field that is missing, unknown or out of range
 */
export function checkFields<S extends z.ZodType>(
  schema: S,
  value: unknown,
  what: string,
  remedy = 'the file is damaged or made by another program',
): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [{ path, message }] = result.error.issues;
  throw new UserError(
    'BAD_CHECKPOINT',
    `${what} ${path.join('.') || '(all)'} cannot be used (${message}); ${remedy}`,
  );
}

/**
 * Refuses a file of a later layout; one without a version is for its reader to judge.
 * @throws UserError when the file's version is above `known`
 */
export function checkFormatVersion(info: object, known: number, file: string): void {
  const { formatVersion } = info as { formatVersion?: unknown };
  if (typeof formatVersion !== 'number' || formatVersion <= known) return;
  throw new UserError(
    'FILE_TOO_NEW',
    `${file} was written by a newer version of patch-diffusion; update to read it`,
  );
}
