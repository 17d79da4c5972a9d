/**
 * Random access to bytes that may lie in memory or in a file, so that gigabytes of weights stay on the disk until
 * the tensor they belong to is wanted. Reading is synchronous: parsers stay plain functions.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { UserError } from '../../common/errors.js';

/** Bytes 0 … size. */
export interface ByteSource {
  readonly size: number;
  /** The bytes [begin, end), which must lie inside; a view where possible, so do not write to it. */
  read(begin: number, end: number): Uint8Array;
}

/** Bytes that are in memory; `read` copies nothing. */
export class MemorySource implements ByteSource {
  constructor(readonly data: Uint8Array) {}

  get size(): number {
    return this.data.length;
  }

  read(begin: number, end: number): Uint8Array {
    return this.data.subarray(begin, end);
  }
}

/** A part of another source, as a source of its own. */
export class ByteSlice implements ByteSource {
  constructor(
    readonly source: ByteSource,
    readonly begin: number,
    readonly size: number,
  ) {}

  read(begin: number, end: number): Uint8Array {
    return this.source.read(this.begin + begin, this.begin + end);
  }

  /** All of it. */
  bytes(): Uint8Array {
    return this.read(0, this.size);
  }

  /** The part [begin, begin + size), which must lie inside. */
  slice(begin: number, size: number): ByteSlice {
    return new ByteSlice(this.source, this.begin + begin, size);
  }
}

/** An open file. */
export class FileSource implements ByteSource {
  readonly size: number;
  #fd: number;

  /** @throws UserError when the file cannot be opened */
  constructor(readonly path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (cause) {
      throw unreadable(path, cause);
    }
    const info = fstatSync(this.#fd);
    if (!info.isFile()) {
      this.close();
      throw new UserError('BAD_CHECKPOINT', `${path} is not a file; name the checkpoint file itself`);
    }
    this.size = info.size;
  }

  read(begin: number, end: number): Uint8Array {
    // A buffer of its own: its start is aligned for every element type.
    const bytes = new Uint8Array(end - begin);
    for (let at = 0; at < bytes.length; ) {
      let got: number;
      try {
        got = readSync(this.#fd, bytes, at, Math.min(bytes.length - at, 1 << 30), begin + at);
      } catch (cause) {
        throw unreadable(this.path, cause);
      }
      if (got === 0) throw new UserError('BAD_CHECKPOINT', `${this.path} became shorter while it was read`);
      at += got;
    }
    return bytes;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

function unreadable(path: string, cause: unknown): UserError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: 'it does not exist; check the path',
    EACCES: 'permission denied; allow reading it',
  };
  return new UserError('BAD_CHECKPOINT', `cannot read ${path}: ${reasons[code ?? ''] ?? message}`, { cause });
}
