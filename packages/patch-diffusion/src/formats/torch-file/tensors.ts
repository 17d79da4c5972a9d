/** Tensors of PyTorch files as descriptions: element type, shape, strides and where the bytes are. */
import type { Device, DType, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import type { Budget } from '../pickle/budget.js';
import type { ByteSlice } from '../pickle/byte-source.js';

/** An element type of PyTorch's storages. */
interface ElementType {
  /** The storage class: `FloatStorage`. */
  readonly storage: string;
  readonly bytes: number;
  /** Ours, where libtorch's binding has it. */
  readonly dtype: DType | null;
}

const types: readonly (readonly [string, number, DType | null])[] = [
  ['FloatStorage', 4, 'float32'],
  ['DoubleStorage', 8, 'float64'],
  ['HalfStorage', 2, 'float16'],
  ['BFloat16Storage', 2, 'bfloat16'],
  ['LongStorage', 8, 'int64'],
  ['IntStorage', 4, 'int32'],
  ['ShortStorage', 2, null],
  ['CharStorage', 1, null],
  ['ByteStorage', 1, 'uint8'],
  ['BoolStorage', 1, 'bool'],
  ['UntypedStorage', 1, 'uint8'],
];

/** Element types by storage class. */
export const elementTypes: ReadonlyMap<string, ElementType> = new Map(
  types.map(([storage, bytes, dtype]) => [storage, { storage, bytes, dtype }]),
);

/** A flat run of elements; its bytes are known once the container has been read. */
export class StorageRef {
  /** Little-endian elements, where the container has them. */
  data: ByteSlice | null = null;

  constructor(
    readonly type: ElementType,
    /** Number of elements. */
    readonly count: number,
  ) {}
}

/** A window into a storage. Offset and strides are in elements. */
export class TensorRef {
  constructor(
    readonly storage: StorageRef,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}

  get numel(): number {
    return this.shape.reduce((product, dim) => product * dim, 1);
  }

  /** Are the elements in row-major order without gaps? */
  get isContiguous(): boolean {
    let step = 1;
    for (let d = this.shape.length - 1; d >= 0; d--) {
      if (this.shape[d] !== 1 && this.strides[d] !== step) return false;
      step *= this.shape[d];
    }
    return true;
  }

  /**
   * The elements in row-major order, little-endian, aligned for typed arrays.
   * @throws UserError when the file lacks them
   */
  bytes(): Uint8Array {
    const { data, type } = this.storage;
    if (data === null)
      throw new UserError('BAD_CHECKPOINT', 'the file lacks the data of a tensor; copy or download it again');
    const width = type.bytes;
    if (this.isContiguous || this.numel === 0) {
      return aligned(data.read(this.offset * width, (this.offset + this.numel) * width), width);
    }
    return this.#gather(data.bytes(), width);
  }

  /** Follows the strides, odometer-wise. */
  #gather(data: Uint8Array, width: number): Uint8Array {
    const { shape, strides, numel } = this;
    const out = new Uint8Array(numel * width);
    const index = shape.map(() => 0);
    let from = this.offset;
    for (let to = 0; to < numel; to++) {
      out.set(data.subarray(from * width, (from + 1) * width), to * width);
      for (let d = shape.length - 1; d >= 0; d--) {
        index[d]++;
        from += strides[d];
        if (index[d] < shape[d]) break;
        from -= strides[d] * shape[d];
        index[d] = 0;
      }
    }
    return out;
  }

  /**
   * A copy as a tensor.
   * @throws UserError for an element type that tensors here do not have
   */
  toTensor(device: Device = 'cpu'): Tensor {
    const { dtype, storage } = this.storage.type;
    if (dtype === null) {
      throw new UserError(
        'BAD_CHECKPOINT',
        `a tensor is a ${storage}, an element type that is not supported; convert it to float32`,
      );
    }
    const bytes = this.bytes();
    return torch.tensor(torch.typedView(bytes, dtype), { shape: [...this.shape], dtype, device });
  }
}

/** `bytes` at an address that is a multiple of `width`. */
function aligned(bytes: Uint8Array, width: number): Uint8Array {
  return bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
}

const MAX_DIMS = 16;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/**
 * Checks what a file says of a tensor: every element must lie inside the storage, and none is used twice (an expanded
 * tensor would be larger in memory than in the file).
 * @throws UserError
 */
export function checkedTensor(
  storage: unknown,
  offset: unknown,
  size: unknown,
  stride: unknown,
  budget: Budget,
): TensorRef {
  if (!(storage instanceof StorageRef)) budget.fail('a tensor without a storage');
  const isList = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length <= MAX_DIMS && value.every(isCount);
  if (!isCount(offset) || !isList(size) || !isList(stride) || size.length !== stride.length) {
    budget.fail('a tensor whose offset, size or stride is no list of counts');
  }
  const numel = size.reduce((product, dim) => product * dim, 1);
  const last = offset + size.reduce((sum, dim, d) => sum + (dim - 1) * stride[d], 0);
  if (numel > storage.count || (numel > 0 && !(last < storage.count))) {
    budget.fail(`a tensor of shape [${size}] goes beyond its storage of ${storage.count} elements`);
  }
  return new TensorRef(storage, offset, [...size], [...stride]);
}
