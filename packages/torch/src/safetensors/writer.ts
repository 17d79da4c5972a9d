/**
 * Writing safetensors files, tensor by tensor: at most one tensor's copy is in memory, and the file appears
 * whole or not at all (see atomic-file.ts).
 */
import { createHash } from 'node:crypto';
import { type AtomicFilePart, writeFileAtomic } from '../atomic-file.js';
import type { Tensor } from '../tensor.js';
import { CHECKSUM_KEY, checksumPosition, NO_CHECKSUM } from './checksum.js';
import { safetensorsDType } from './dtypes.js';
import { encodeHeader } from './encode-header.js';

/**
 * Writes tensors with their names and optional free-form strings.
 *
 * The tensors must stay alive and unchanged until the promise settles. Their order is kept in the header;
 * the data is ordered by element size, so that every tensor is aligned.
 *
 * @param metadata - Strings only; keep structured values as JSON text.
 * @param options.checksum - Adds `sha256` to the metadata, which {@link verifySafetensors} checks.
 * @throws SafetensorsError if a name is used twice or cannot be written, or an element type has no name there.
 * @throws FileWriteError if the file system refuses (disk full, read-only, …); no part of the file remains.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, Tensor]>,
  metadata: Readonly<Record<string, string>> = {},
  { checksum = false }: { readonly checksum?: boolean } = {},
): Promise<void> {
  const list = [...tensors];
  const layout = list.map(([name, { dtype, shape }]) => ({
    name,
    dtype: safetensorsDType(dtype, name, path),
    shape,
  }));
  const all = checksum ? { ...metadata, [CHECKSUM_KEY]: NO_CHECKSUM } : metadata;
  const { bytes, order } = encodeHeader(layout, all, path);
  const hash = checksum ? createHash('sha256').update(bytes) : null;

  async function* parts(): AsyncGenerator<AtomicFilePart> {
    yield bytes;
    for (const index of order) {
      const { buffer, byteOffset, byteLength } = await list[index][1].readback();
      const part = new Uint8Array(buffer, byteOffset, byteLength);
      hash?.update(part);
      yield part;
    }
    if (hash) yield { at: checksumPosition(bytes, NO_CHECKSUM), bytes: Buffer.from(hash.digest('hex')) };
  }
  await writeFileAtomic(path, parts());
}
