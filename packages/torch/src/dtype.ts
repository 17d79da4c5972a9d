/**
 * Element types, devices and memory formats, and which typed array holds which element type.
 */
import { TorchError } from './errors.js';

/** Element types of tensors. */
export type DType = 'float64' | 'float32' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'uint8' | 'bool';

/** `'cpu'`, `'cuda'`, `'cuda:1'` or `'mps'`. */
export type Device = string;

/** Order of a 4-D tensor's elements in memory. `preserve` keeps the source's. */
export type MemoryFormat = 'contiguous' | 'channelsLast' | 'preserve';

/** A number where libtorch takes a scalar. Integers stay integers, as Python's literals do. */
export type Scalar = number | bigint | boolean;

/** How a loss is reduced over its elements. */
export type Reduction = 'none' | 'mean' | 'sum';

/** Arrays that tensors are made from. */
export type TypedArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | Int32Array
  | Uint16Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Int8Array
  | Uint32Array;

type TypedArrayConstructor = {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): TypedArray;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): TypedArray;
};

const ARRAYS: Record<string, TypedArrayConstructor> = {
  float64: Float64Array,
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/**
 * A typed array for that many elements.
 * @throws TorchError `ERR_TORCH_MEMORY` when there is no memory for it
 */
export function newTypedArray(dtype: string, length: number): TypedArray {
  const ArrayType = arrayType(dtype);
  try {
    return new ArrayType(length);
  } catch (cause) {
    const bytes = length * ArrayType.BYTES_PER_ELEMENT;
    throw new TorchError(
      'ERR_TORCH_MEMORY',
      `out of memory: no room for an array of ${bytes} bytes`,
      undefined,
      undefined,
      { cause },
    );
  }
}

/**
 * Elements in native byte order as the typed array that holds them, without a copy; float16 and bfloat16 as raw bits.
 * @throws RangeError when the bytes do not begin at a multiple of the element's size in their buffer
 */
export function typedView({ buffer, byteOffset, byteLength }: Uint8Array, dtype: string): TypedArray {
  const ArrayType = arrayType(dtype);
  return new ArrayType(buffer, byteOffset, byteLength / ArrayType.BYTES_PER_ELEMENT);
}

function arrayType(dtype: string): TypedArrayConstructor {
  const ArrayType = ARRAYS[dtype];
  if (!ArrayType) throw new TypeError(`internal: no typed array holds ${dtype}`);
  return ArrayType;
}

/** Whether the type is a floating-point one. */
export function isFloatingPoint(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'float16' || dtype === 'bfloat16';
}
