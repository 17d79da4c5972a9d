/** Sequential reading of a pickle: little-endian fields, bounded lines and slices that stay where they are. */
import type { Budget } from './budget.js';
import { ByteSlice, type ByteSource } from './byte-source.js';

const WINDOW_BYTES = 1 << 16;
const NEWLINE = 10;

export class PickleInput {
  /** Position of the next byte. */
  at: number;
  #window: Uint8Array = new Uint8Array(0);
  #windowAt = 0;

  constructor(
    readonly source: ByteSource,
    readonly budget: Budget,
    begin = 0,
  ) {
    this.at = begin;
  }

  get remaining(): number {
    return this.source.size - this.at;
  }

  uint8(): number {
    const offset = this.at - this.#windowAt;
    if (offset >= 0 && offset < this.#window.length) {
      this.at++;
      return this.#window[offset];
    }
    return this.take(1)[0];
  }

  uint16(): number {
    return this.#view(2).getUint16(0, true);
  }

  int32(): number {
    return this.#view(4).getInt32(0, true);
  }

  uint32(): number {
    return this.#view(4).getUint32(0, true);
  }

  /** A length: 64 bits that must be a whole number below 2^53. */
  length64(): number {
    const view = this.#view(8);
    const value = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
    if (!Number.isSafeInteger(value)) this.budget.fail(`it claims ${value} bytes at byte ${this.at - 8}`);
    return value;
  }

  /** Big-endian, as pickles store floats. */
  float64(): number {
    return this.#view(8).getFloat64(0, false);
  }

  /** The next `count` bytes, in memory. Their cost is the caller's to charge. */
  take(count: number): Uint8Array {
    this.#require(count);
    if (count > WINDOW_BYTES) {
      const bytes = this.source.read(this.at, this.at + count);
      this.at += count;
      return bytes;
    }
    if (this.at < this.#windowAt || this.at + count > this.#windowAt + this.#window.length) {
      this.#windowAt = this.at;
      this.#window = this.source.read(this.at, Math.min(this.at + WINDOW_BYTES, this.source.size));
    }
    const offset = this.at - this.#windowAt;
    this.at += count;
    return this.#window.subarray(offset, offset + count);
  }

  /** The next `count` bytes where they are; nothing is read. */
  skip(count: number): ByteSlice {
    this.#require(count);
    const slice = new ByteSlice(this.source, this.at, count);
    this.at += count;
    return slice;
  }

  /** Latin-1 text up to the next line feed. */
  line(maxLength: number): string {
    let text = '';
    for (let byte = this.uint8(); byte !== NEWLINE; byte = this.uint8()) {
      if (text.length === maxLength)
        this.budget.fail(`a line of more than ${maxLength} characters at byte ${this.at}`);
      text += String.fromCharCode(byte);
    }
    return text;
  }

  #view(count: number): DataView {
    const { buffer, byteOffset } = this.take(count);
    return new DataView(buffer, byteOffset, count);
  }

  #require(count: number): void {
    if (count > this.remaining) {
      this.budget.fail(`it ends at byte ${this.source.size}, in the middle of a value (byte ${this.at})`);
    }
  }
}
