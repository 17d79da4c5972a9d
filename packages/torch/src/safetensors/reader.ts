/**
 * Reading safetensors files: the header is checked whole when the file is opened, tensors are read one by one
 * when asked for. Memory is bounded by the file's real size whatever its header claims.
 * Limits: little-endian machines (all that Node's native addons here run on); no memory mapping.
 */
import { close, closeSync, read } from 'node:fs';
import { promisify } from 'node:util';
import type { Device, DType } from '../dtype.js';
import type { Tensor } from '../tensor.js';
import { tensorFromBytes, torchDType } from './dtypes.js';
import { SafetensorsError } from './error.js';
import type { SafetensorsHeader, TensorEntry } from './header.js';
import { asReadError, CHUNK_BYTES, checkProgress, openWithHeader, readFully } from './read-header.js';

const readAsync = promisify(read);
const closeAsync = promisify(close);

/** What {@link SafetensorsFile.info} tells without reading the tensor. */
export interface TensorInfo {
  readonly dtype: DType;
  readonly shape: number[];
}

/** An open safetensors file. Close it, or declare it with `using`. */
export class SafetensorsFile {
  readonly path: string;
  readonly #header: SafetensorsHeader;
  readonly #dataStart: number;
  #fd: number;

  private constructor(path: string) {
    const { fd, header, dataStart } = openWithHeader(path);
    this.path = path;
    this.#fd = fd;
    this.#header = header;
    this.#dataStart = dataStart;
  }

  /**
   * Opens a file and checks its header.
   *
   * @throws SafetensorsError naming the file and what is wrong (missing, truncated, malformed, …).
   */
  static openSync(path: string): SafetensorsFile {
    return new SafetensorsFile(path);
  }

  /** {@link SafetensorsFile.openSync} as a promise; only the header is read. */
  static async open(path: string): Promise<SafetensorsFile> {
    return SafetensorsFile.openSync(path);
  }

  /** The file's free-form strings; a plain object with own properties only. */
  get metadata(): Record<string, string> {
    return this.#header.metadata;
  }

  /** Tensor names in the order of the header. */
  get names(): string[] {
    return [...this.#header.entries.keys()];
  }

  has(name: string): boolean {
    return this.#header.entries.has(name);
  }

  /**
   * Element type and shape of a tensor, without reading it.
   *
   * @throws SafetensorsError if there is no such tensor or its element type has no counterpart here.
   */
  info(name: string): TensorInfo {
    const entry = this.#entry(name);
    return { dtype: torchDType(entry, this.path), shape: [...entry.shape] };
  }

  /**
   * Reads one tensor.
   *
   * @throws SafetensorsError if there is no such tensor, its element type is not supported, or reading fails.
   */
  tensor(name: string, { device }: { device?: Device } = {}): Tensor {
    const entry = this.#entry(name);
    torchDType(entry, this.path); // before reading what could be gigabytes
    const bytes = this.#allocate(entry);
    this.#readInto(bytes, this.#dataStart + entry.begin);
    return tensorFromBytes(bytes, entry, this.path, device);
  }

  /** {@link SafetensorsFile.tensor}, reading off the event loop. */
  async readTensor(name: string, { device }: { device?: Device } = {}): Promise<Tensor> {
    const entry = this.#entry(name);
    torchDType(entry, this.path);
    const bytes = this.#allocate(entry);
    await this.#readIntoAsync(bytes, this.#dataStart + entry.begin);
    return tensorFromBytes(bytes, entry, this.path, device);
  }

  /** The raw little-endian bytes of one tensor, for element types that libtorch lacks. */
  bytes(name: string): Uint8Array {
    const entry = this.#entry(name);
    const bytes = this.#allocate(entry);
    this.#readInto(bytes, this.#dataStart + entry.begin);
    return bytes;
  }

  /**
   * Fills `target` with raw bytes of one tensor, from byte `offset` of it on: a row of a tensor that would not fit
   * into memory.
   *
   * @throws SafetensorsError as {@link bytes}; RangeError if the part reaches beyond the tensor.
   */
  bytesInto(name: string, offset: number, target: Uint8Array): void {
    this.#readInto(target, this.#partPosition(name, offset, target));
  }

  /** {@link SafetensorsFile.bytesInto}, reading off the event loop. */
  async readBytesInto(name: string, offset: number, target: Uint8Array): Promise<void> {
    await this.#readIntoAsync(target, this.#partPosition(name, offset, target));
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) await closeAsync(fd);
  }

  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) closeSync(fd);
  }

  #entry(name: string): TensorEntry {
    const entry = this.#header.entries.get(name);
    if (entry === undefined) {
      const names = this.names;
      const some = names.slice(0, 5).join(', ') + (names.length > 5 ? ', …' : '');
      const what = `it has no tensor ${JSON.stringify(name)} (${names.length} tensors: ${some})`;
      throw new SafetensorsError(this.path, 'no-such-tensor', what);
    }
    return entry;
  }

  #partPosition(name: string, offset: number, { length }: Uint8Array): number {
    const { begin, end } = this.#entry(name);
    if (!(offset >= 0 && offset + length <= end - begin)) {
      throw new RangeError(
        `internal: bytes ${offset} to ${offset + length} of ${name}, which has ${end - begin}`,
      );
    }
    return this.#dataStart + begin + offset;
  }

  #allocate({ name, begin, end }: TensorEntry): Uint8Array {
    try {
      return new Uint8Array(end - begin);
    } catch (error) {
      const what = `tensor ${JSON.stringify(name)} of ${end - begin} bytes does not fit into memory`;
      throw new SafetensorsError(this.path, 'unreadable', what, { cause: error });
    }
  }

  #readInto(target: Uint8Array, position: number): void {
    this.#assertOpen();
    readFully(this.#fd, target, position, this.path);
  }

  async #readIntoAsync(target: Uint8Array, position: number): Promise<void> {
    this.#assertOpen();
    try {
      for (let at = 0; at < target.length; ) {
        const length = Math.min(CHUNK_BYTES, target.length - at);
        const { bytesRead } = await readAsync(this.#fd, target, at, length, position + at);
        at += checkProgress(bytesRead, this.path);
      }
    } catch (error) {
      throw asReadError(this.path, error);
    }
  }

  #assertOpen(): void {
    if (this.#fd < 0) throw new SafetensorsError(this.path, 'unreadable', 'the file was already closed');
  }
}

/**
 * Reads a whole file; the caller owns the tensors (read inside no `scope`, or dispose them).
 *
 * @throws SafetensorsError as {@link SafetensorsFile.open}; nothing is leaked then.
 */
export async function readSafetensors(
  path: string,
  options: { device?: Device } = {},
): Promise<{ tensors: Map<string, Tensor>; metadata: Record<string, string> }> {
  const file = await SafetensorsFile.open(path);
  const tensors = new Map<string, Tensor>();
  try {
    for (const name of file.names) tensors.set(name, await file.readTensor(name, options));
    return { tensors, metadata: file.metadata };
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  } finally {
    await file.close();
  }
}
