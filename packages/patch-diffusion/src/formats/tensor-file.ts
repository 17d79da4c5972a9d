/** What our safetensors files (snapshots, states, latents) have in common: a description as JSON in the metadata. */
import { SafetensorsFile, type Tensor } from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';

/** Key of the description in a file's metadata. */
export const METADATA_KEY = 'patch_diffusion';

/** Opens a safetensors file; what is wrong with it becomes a one-line error. */
export async function openTensorFile(file: string): Promise<SafetensorsFile> {
  try {
    return await SafetensorsFile.open(file);
  } catch (cause) {
    throw new UserError('BAD_TENSOR_FILE', (cause as Error).message, { cause });
  }
}

/** The JSON object under {@link METADATA_KEY}, or an empty one. */
export function readMetadata(reader: SafetensorsFile, file: string): object {
  const text = reader.metadata[METADATA_KEY];
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

/** Reads the tensors whose names begin with `prefix`, which is cut off. */
export function tensorsUnder(reader: SafetensorsFile, prefix: string): Map<string, Tensor> {
  const names = reader.names.filter((name) => name.startsWith(prefix));
  return new Map(names.map((name) => [name.slice(prefix.length), reader.tensor(name)]));
}
