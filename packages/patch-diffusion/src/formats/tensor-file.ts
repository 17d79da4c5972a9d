/** Reading the tensors of safetensors files; what the files say of themselves is in file-description.ts. */
import { SafetensorsFile, type Tensor } from '@patch-diffusion/torch';
import { asUserError } from './file-description.js';

/** Opens a safetensors file; what is wrong with it becomes an error for people. */
export async function openTensorFile(file: string): Promise<SafetensorsFile> {
  return asUserError(() => SafetensorsFile.openSync(file));
}

/** Reads the tensors whose names begin with `prefix`, which is cut off. */
export function tensorsUnder(reader: SafetensorsFile, prefix: string): Map<string, Tensor> {
  const names = reader.names.filter((name) => name.startsWith(prefix));
  return new Map(names.map((name) => [name.slice(prefix.length), reader.tensor(name)]));
}
