/** Element types of files and of tensors, and the one way from raw bytes to a tensor. */
import { type Device, type DType, typedView } from '../dtype.js';
import { type Tensor, tensor } from '../tensor.js';
import { SafetensorsError } from './error.js';
import type { SafetensorsDType, TensorEntry } from './header.js';

const TO_TORCH: Readonly<Partial<Record<SafetensorsDType, DType>>> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  U8: 'uint8',
  BOOL: 'bool',
};

const FROM_TORCH: Readonly<Record<DType, SafetensorsDType>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  uint8: 'U8',
  bool: 'BOOL',
};

/** The file's name for an element type. @throws SafetensorsError if it has none (types that only operators make) */
export function safetensorsDType(dtype: string, name: string, file: string): SafetensorsDType {
  const found = FROM_TORCH[dtype as DType];
  if (found !== undefined) return found;
  const what = `tensor ${JSON.stringify(name)} is ${dtype}; supported are ${Object.keys(FROM_TORCH).join(', ')}`;
  throw new SafetensorsError(file, 'unsupported-dtype', what);
}

/** @throws SafetensorsError if tensors here have no such element type (the `torch` of Python reads it). */
export function torchDType(entry: TensorEntry, file: string): DType {
  const dtype = TO_TORCH[entry.dtype];
  if (dtype === undefined) {
    const known = Object.keys(TO_TORCH).join(', ');
    const what = `tensor ${JSON.stringify(entry.name)} is ${entry.dtype}; supported are ${known}`;
    throw new SafetensorsError(file, 'unsupported-dtype', what);
  }
  return dtype;
}

/**
 * A tensor from an entry's little-endian bytes, which start at the beginning of their buffer.
 *
 * @throws SafetensorsError if the element type is not supported.
 */
export function tensorFromBytes(
  bytes: Uint8Array,
  entry: TensorEntry,
  file: string,
  device?: Device,
): Tensor {
  const dtype = torchDType(entry, file);
  return tensor(typedView(bytes, dtype), { shape: [...entry.shape], dtype, device });
}
