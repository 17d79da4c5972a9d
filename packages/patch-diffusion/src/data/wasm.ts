/** The loops over pixels that are in WebAssembly (wasm/pixels.as.ts), and their memory. */
import { WASM_BASE64 } from './pixels-wasm.js';

// Node's types of the oldest supported version have no WebAssembly.
interface LinearMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): void;
}
declare const WebAssembly: {
  readonly Memory: new (descriptor: { initial: number }) => LinearMemory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

/** Arguments are addresses and sizes; see wasm/pixels.as.ts. */
interface Exports {
  horizontal(...numbers: number[]): void;
  vertical(...numbers: number[]): void;
  unfilter(...numbers: number[]): number;
}

let shared: { readonly memory: LinearMemory; readonly exports: Exports } | null = null;

/** Compiled at its first use, within a millisecond. */
function instance(): NonNullable<typeof shared> {
  if (shared === null) {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const module = new WebAssembly.Module(Buffer.from(WASM_BASE64, 'base64'));
    const { exports } = new WebAssembly.Instance(module, { env: { memory } });
    shared = { memory, exports: exports as Exports };
  }
  return shared;
}

export const wasm = (): Exports => instance().exports;

/** What the vector instructions may touch behind an area. */
const MARGIN = 16;
const PAGE = 2 ** 16;

/** The memory for one call, with room for areas of these sizes. What an earlier call had there is gone. */
export function wasmMemory(...sizes: readonly number[]): WasmMemory {
  const { memory } = instance();
  const needed = sizes.reduce((sum, size) => sum + areaBytes(size), 0);
  const missing = needed - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
  return new WasmMemory(new Uint8Array(memory.buffer));
}

const areaBytes = (size: number): number => (Math.ceil(size / MARGIN) + 1) * MARGIN;

export class WasmMemory {
  #end = 0;

  constructor(readonly bytes: Uint8Array) {}

  /** The address of a new area. */
  take(length: number): number {
    const at = this.#end;
    this.#end += areaBytes(length);
    return at;
  }

  /** The address of a new area with these contents. */
  put({ buffer, byteOffset, byteLength }: Uint8Array | Int32Array | Int16Array): number {
    const at = this.take(byteLength);
    this.bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    return at;
  }

  /** A copy of an area. */
  copy(at: number, length: number): Uint8Array {
    return this.bytes.slice(at, at + length);
  }
}
