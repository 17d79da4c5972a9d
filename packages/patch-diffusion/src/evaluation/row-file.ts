/**
 * Rows of one length in a file: samples or their features, as they come. Memory stays flat however many there are, and
 * what is there when a process ends is used by the next one; a row that was written in part is cut off.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { guarded } from '../common/file-error.js';

export class RowFile {
  readonly path: string;
  readonly rowBytes: number;
  readonly #file: FileHandle;
  #count: number;

  private constructor(path: string, rowBytes: number, file: FileHandle, count: number) {
    this.path = path;
    this.rowBytes = rowBytes;
    this.#file = file;
    this.#count = count;
  }

  /** Opens a file, or makes it. */
  static async open(path: string, rowBytes: number): Promise<RowFile> {
    return guarded(`write ${path}`, async () => {
      const file = await open(path, 'a+');
      const { size } = await file.stat();
      const count = Math.floor(size / rowBytes);
      await file.truncate(count * rowBytes);
      return new RowFile(path, rowBytes, file, count);
    });
  }

  /** Whole rows. */
  get count(): number {
    return this.#count;
  }

  /** Adds whole rows. */
  async append(rows: Uint8Array): Promise<void> {
    await guarded(`write ${this.path}`, () => this.#file.appendFile(rows));
    this.#count += rows.length / this.rowBytes;
  }

  /** The bytes of rows, in the order asked for. */
  async read(indices: ArrayLike<number>): Promise<Uint8Array> {
    const { rowBytes } = this;
    const out = new Uint8Array(indices.length * rowBytes);
    for (let k = 0; k < indices.length; ) {
      // Rows that follow each other are read at once.
      let end = k + 1;
      while (end < indices.length && indices[end] === indices[end - 1] + 1) end++;
      const length = (end - k) * rowBytes;
      const { bytesRead } = await this.#file.read(out, k * rowBytes, length, indices[k] * rowBytes);
      if (bytesRead !== length) throw new RangeError(`internal: ${this.path} has no row ${indices[end - 1]}`);
      k = end;
    }
    return out;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
