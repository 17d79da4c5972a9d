/**
 * A safetensors file that carries its own checksum: `sha256` in its metadata is the SHA-256 of the whole file with these
 * 64 characters as zeros, so that the header is covered, too. No native imports: it works where libtorch is absent.
 */
import { createHash } from 'node:crypto';
import { closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { SafetensorsError } from './error.js';
import { asReadError, checkProgress, openWithHeader, readFully } from './read-header.js';

const readAsync = promisify(read);

/** Key in the metadata. */
export const CHECKSUM_KEY = 'sha256';
/** Stands in the file while its checksum is computed. */
export const NO_CHECKSUM = '0'.repeat(64);
const BUFFER_BYTES = 1 << 22;

/** Position of the checksum's characters in a file's first bytes, which have {@link CHECKSUM_KEY} with `value`. */
export function checksumPosition(head: Uint8Array, value: string): number {
  // Quotes inside of strings are escaped: this can only be the entry itself.
  const [before, entry] = [`"${CHECKSUM_KEY}":"`, `"${CHECKSUM_KEY}":"${value}"`];
  const at = Buffer.from(head.buffer, head.byteOffset, head.byteLength).indexOf(entry);
  return at < 0 ? -1 : at + before.length;
}

/**
 * Reads a file whole and compares it with the checksum in it, off the event loop.
 *
 * @returns Whether it has a checksum; without one, nothing but its header is checked.
 * @throws SafetensorsError if it is damaged (`damaged`), or cannot be read.
 */
export async function verifySafetensors(path: string): Promise<boolean> {
  const { fd, header, dataStart, bytes } = openWithHeader(path);
  try {
    const expected = header.metadata[CHECKSUM_KEY];
    if (expected === undefined) return false;
    const head = new Uint8Array(dataStart);
    readFully(fd, head, 0, path);
    const at = checksumPosition(head, expected);
    if (at < 0 || expected.length !== NO_CHECKSUM.length) throw damaged(path);
    head.fill(0x30, at, at + NO_CHECKSUM.length);
    const hash = createHash('sha256').update(head);
    const buffer = new Uint8Array(BUFFER_BYTES);
    for (let position = dataStart; position < bytes; ) {
      const length = Math.min(buffer.length, bytes - position);
      const { bytesRead } = await readAsync(fd, buffer, 0, length, position);
      position += checkProgress(bytesRead, path);
      hash.update(buffer.subarray(0, bytesRead));
    }
    if (hash.digest('hex') !== expected) throw damaged(path);
    return true;
  } catch (error) {
    throw asReadError(path, error);
  } finally {
    closeSync(fd);
  }
}

function damaged(path: string): SafetensorsError {
  const what =
    'its contents do not fit the sha256 in its metadata; it is damaged, or was changed by another program';
  return new SafetensorsError(path, 'damaged', what);
}
