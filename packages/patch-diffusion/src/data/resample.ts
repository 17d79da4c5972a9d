/**
 * The two passes of a resampling with fixed-point weights, in WebAssembly (wasm/pixels.as.ts), which has vector
 * instructions: several times as fast as JavaScript, with the same sums.
 */
import { type WasmMemory, wasm, wasmMemory } from './wasm.js';

/** For each output position: the first input position, the number of taps, and weights of 22 fractional bits. */
export interface Kernel {
  readonly first: Int32Array;
  readonly taps: Int32Array;
  /** Weights are `high · 2¹¹ + low`; those behind the taps are 0. */
  readonly high: Int16Array;
  readonly low: Int16Array;
  /** Weights per output position; more than its taps. */
  readonly stride: number;
}

const LOW_BITS = 11;

/** @param weights of 22 fractional bits, `stride` per output position, the last of them 0 */
export function makeKernel(first: Int32Array, taps: Int32Array, weights: Int32Array, stride: number): Kernel {
  const high = Int16Array.from(weights, (weight) => weight >> LOW_BITS);
  const low = Int16Array.from(weights, (weight) => weight & ((1 << LOW_BITS) - 1));
  return { first, taps, high, low, stride };
}

/** Rows of pixels with 1, 3 or 4 interleaved channels, in a larger image. */
export interface Rows {
  readonly data: Uint8Array;
  /** Position of the first row in `data`, and bytes from one row to the next. */
  readonly start: number;
  readonly stride: number;
  /** Number of rows. */
  readonly count: number;
  readonly channels: number;
}

/** Rows are copied in a few at a time, which then are in the processor's cache. */
const STRIPE_BYTES = 2 ** 18;

/** Resamples each row. @returns rows of as many pixels as the kernel has positions, without gaps */
export function resampleRows({ data, start, stride, count, channels }: Rows, kernel: Kernel): Uint8Array {
  if (channels !== 1 && channels !== 3 && channels !== 4)
    throw new RangeError(`internal: resampling of ${channels} channels`);
  const width = kernel.first.length;
  const length = count * width * channels;
  const stripeRows = Math.min(count, Math.max(1, Math.floor(STRIPE_BYTES / stride)));
  const memory = wasmMemory(length, stripeRows * stride, ...kernelBytes(kernel));
  const target = memory.take(length);
  const stripe = memory.take(stripeRows * stride);
  const numbers = putKernel(memory, kernel);
  for (let row = 0; row < count; row += stripeRows) {
    const rows = Math.min(stripeRows, count - row);
    const from = start + row * stride;
    memory.bytes.set(data.subarray(from, from + rows * stride), stripe);
    wasm().horizontal(stripe, stride, rows, target + row * width * channels, width, channels, ...numbers);
  }
  return memory.copy(target, length);
}

/** Resamples each column of bytes. @returns as many rows of `rowBytes` as the kernel has positions, without gaps */
export function resampleColumns(
  { data, start, stride, count }: Omit<Rows, 'channels'>,
  rowBytes: number,
  kernel: Kernel,
): Uint8Array {
  const height = kernel.first.length;
  const length = height * rowBytes;
  const memory = wasmMemory(length, (count + 1) * stride, ...kernelBytes(kernel));
  const target = memory.take(length);
  const source = memory.take((count + 1) * stride);
  const numbers = putKernel(memory, kernel);
  memory.bytes.set(data.subarray(start, start + count * stride), source);
  wasm().vertical(source, stride, rowBytes, target, height, ...numbers);
  return memory.copy(target, length);
}

const kernelBytes = ({ first, taps, high, low }: Kernel): number[] =>
  [first, taps, high, low].map(({ byteLength }) => byteLength);

function putKernel(memory: WasmMemory, { first, taps, high, low, stride }: Kernel): number[] {
  return [...[first, taps, high, low].map((array) => memory.put(array)), stride];
}
