/** Reading the header of a safetensors file. No native imports: it works where libtorch is absent. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { SafetensorsError } from './error.js';
import { headerLength, parseHeader, type SafetensorsHeader } from './header.js';

export { SafetensorsError } from './error.js';
export type { SafetensorsHeader, TensorEntry } from './header.js';

/** The system reads at most 2 GiB at once. */
export const CHUNK_BYTES = 1 << 30;

/**
 * Reads and checks the header of a file.
 *
 * @throws SafetensorsError naming the file and what is wrong (missing, truncated, malformed, …).
 */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  const { fd, header } = openWithHeader(path);
  closeSync(fd);
  return header;
}

/** An open file with its checked header. */
interface OpenFile {
  /** The caller closes it. */
  readonly fd: number;
  readonly header: SafetensorsHeader;
  /** Position of the data block. */
  readonly dataStart: number;
  /** Size of the file. */
  readonly bytes: number;
}

/** Opens a file and reads its header. */
export function openWithHeader(path: string): OpenFile {
  let fd: number | undefined;
  try {
    // Without O_NONBLOCK (absent on Windows) a named pipe would wait for a writer for ever.
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const info = fstatSync(fd);
    if (!info.isFile()) throw new SafetensorsError(path, 'unreadable', 'it is not a file');
    const prefix = new Uint8Array(Math.min(8, info.size));
    readFully(fd, prefix, 0, path);
    const length = headerLength(prefix, info.size, path);
    const json = new Uint8Array(length);
    readFully(fd, json, 8, path);
    const header = parseHeader(json, info.size - 8 - length, path);
    return { fd, header, dataStart: 8 + length, bytes: info.size };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw asReadError(path, error);
  }
}

/** Fills `target` from `position` on. */
export function readFully(fd: number, target: Uint8Array, position: number, path: string): void {
  try {
    for (let at = 0; at < target.length; ) {
      const length = Math.min(CHUNK_BYTES, target.length - at);
      at += checkProgress(readSync(fd, target, at, length, position + at), path);
    }
  } catch (error) {
    throw asReadError(path, error);
  }
}

/** @throws SafetensorsError at the end of the file */
export function checkProgress(bytesRead: number, path: string): number {
  if (bytesRead > 0) return bytesRead;
  throw new SafetensorsError(path, 'truncated', 'the file became shorter while it was read');
}

export function asReadError(path: string, error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof SafetensorsError || !('code' in error)) return error;
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission to read it is denied',
    EISDIR: 'it is a folder, not a file',
  };
  const what = reasons[String(error.code)] ?? `it cannot be read: ${error.message}`;
  return new SafetensorsError(path, 'unreadable', what, { cause: error });
}
