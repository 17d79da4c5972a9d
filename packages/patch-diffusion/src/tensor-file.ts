/** What our safetensors files (snapshots, states, latents) have in common: a description as JSON in the metadata. */
import { SafetensorsFile } from '@patch-diffusion/torch';
import { UserError } from './errors.js';

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
