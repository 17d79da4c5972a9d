/**
 * `Tensor`: a handle to one of libtorch's tensors, and the functions that make one from JavaScript data.
 *
 * Operators are added as methods by `ops/generated.ts`; here is only what is not an operator: properties,
 * gradients, and the way to and from typed arrays.
 */
import { type Device, type DType, type MemoryFormat, newTypedArray, type TypedArray } from './dtype.js';
import { TorchError } from './errors.js';
import { native } from './native.js';
import { op } from './ops/bind.js';
import { Handle } from './scope.js';

/** Numbers in rows, rows in matrices, … all of one length. */
export type NestedNumbers = readonly (number | NestedNumbers)[];

/** Options of {@link Tensor.to}. */
export interface ToOptions {
  readonly dtype?: DType;
  readonly device?: Device;
  readonly memoryFormat?: MemoryFormat;
  /** Let a copy between pinned memory and a GPU run on. */
  readonly nonBlocking?: boolean;
  /** Copy even where nothing changes. */
  readonly copy?: boolean;
}

/** Options of {@link Tensor.backward}. */
export interface BackwardOptions {
  /** Keep what was recorded, for another `backward` through the same operations. */
  readonly retainGraph?: boolean;
  /** Record the gradient's own operations (for second derivatives). */
  readonly createGraph?: boolean;
}

const to = op('to', 'dtype_layout', 'self dtype device non_blocking copy memory_format');

/** An n-dimensional array in native memory. */
export class Tensor extends Handle {
  /** Sizes of the dimensions; `[]` for a scalar. */
  get shape(): number[] {
    return native().shape(this._h);
  }

  /** Elements to skip in memory per step along each dimension. */
  get strides(): number[] {
    return native().strides(this._h);
  }

  get dtype(): DType {
    return native().dtype(this._h) as DType;
  }

  get device(): Device {
    return native().device(this._h);
  }

  /** Number of elements. */
  get numel(): number {
    return native().numel(this._h);
  }

  /** Number of dimensions. */
  get ndim(): number {
    return native().ndim(this._h);
  }

  /** Size of one dimension; negative ones count from the end. */
  size(dim: number): number {
    return native().size(this._h, dim);
  }

  /** Whether the elements lie row by row (or in channels-last order) without gaps. */
  isContiguous(memoryFormat: 'contiguous' | 'channelsLast' = 'contiguous'): boolean {
    return native().isContiguous(this._h, memoryFormat === 'channelsLast');
  }

  /** Whether both tensors are views of the same memory. */
  sharesStorage(other: Tensor): boolean {
    return native().sameStorage(this._h, other._h);
  }

  /** Whether operations on this tensor are recorded for {@link backward}. */
  get requiresGrad(): boolean {
    return native().requiresGrad(this._h);
  }

  /** Switches recording on (or off, for tensors that no recorded operation made). In place. */
  setRequiresGrad(on = true): this {
    native().setRequiresGrad(this._h, on);
    return this;
  }

  /** Takes the memory (type, device, shape) of another tensor and stays the same parameter otherwise. In place. */
  setData(other: Tensor): this {
    native().setData(this._h, other._h);
    return this;
  }

  /** Whether no recorded operation made this tensor. Gradients accumulate in leaves only. */
  get isLeaf(): boolean {
    return native().isLeaf(this._h);
  }

  /** The accumulated gradient, or null. Each read makes a new handle to the same tensor. */
  get grad(): Tensor | null {
    const handle = native().getGrad(this._h);
    return handle === null ? null : new Tensor(handle);
  }

  set grad(gradient: Tensor | null) {
    native().setGrad(this._h, gradient === null ? null : gradient._h);
  }

  /**
   * Adds the gradient of this tensor to `.grad` of every leaf that it depends on.
   *
   * @param gradient - The gradient with respect to this tensor; not needed for a single element (then 1).
   */
  backward(gradient?: Tensor | null, options?: BackwardOptions): void {
    native().backward(this._h, gradient?._h, options?.retainGraph, options?.createGraph);
  }

  /** This tensor in another element type, on another device or in another memory order; itself if nothing changes. */
  to(options: ToOptions): Tensor {
    return new Tensor(
      to.f(
        this._h,
        options.dtype,
        options.device,
        options.nonBlocking,
        options.copy,
        options.memoryFormat,
      ) as number,
    );
  }

  /** The only element, as a number. Waits for the device. */
  item(): number {
    return native().item(this._h);
  }

  /**
   * A copy of the elements, row by row: float16 and bfloat16 as raw bits in a Uint16Array, int64 as a
   * BigInt64Array, bool and uint8 as a Uint8Array. Waits for the device.
   */
  toTypedArray(): TypedArray {
    return this.copyToArray(newTypedArray(this.dtype, this.numel));
  }

  /** A copy of the elements, row by row, converted to float32. Waits for the device. */
  toFloat32Array(): Float32Array {
    const array = newTypedArray('float32', this.numel) as Float32Array;
    if (this.dtype === 'float32') return this.copyToArray(array);
    const converted: number = to.f(this._h, 'float32', 'cpu');
    try {
      native().readBytes(converted, array);
      return array;
    } finally {
      native().release(converted);
    }
  }

  /**
   * Like {@link toTypedArray}, without waiting for a GPU: the copy is enqueued at once (later writes do not show
   * in it) and the promise settles when it has arrived.
   */
  async readback(): Promise<TypedArray> {
    return native().readback(this._h, newTypedArray(this.dtype, this.numel));
  }

  /** Replaces the elements, row by row, by those of an array of the same number of bytes. In place, unrecorded. */
  copyFromArray(data: TypedArray): this {
    native().writeBytes(this._h, data);
    return this;
  }

  /** Writes the elements, row by row, into an array of the same number of bytes. Waits for the device. */
  copyToArray<A extends TypedArray>(array: A): A {
    native().readBytes(this._h, array);
    return array;
  }

  /** `Tensor float32[2, 3]`, with the device where it is not the CPU. */
  override toString(): string {
    if (this.isDisposed) return 'Tensor (disposed)';
    const device = this.device;
    return `Tensor ${this.dtype}[${this.shape.join(', ')}]${device === 'cpu' ? '' : ` on ${device}`}`;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

/** Wraps a handle that an operator returned. */
export function wrap(handle: number): Tensor {
  return new Tensor(handle);
}

/** Wraps the handles that an operator returned; undefined tensors are null. */
export function wrapAll(handles: (number | null)[]): Tensor[] {
  return handles.map((handle) => (handle === null ? null : new Tensor(handle))) as Tensor[];
}

/** Options of {@link tensor}. */
export interface TensorOptions {
  /** Default: the array's length, or the nesting of the numbers. */
  readonly shape?: readonly number[];
  /** Default: the array's own type; float32 for plain numbers. */
  readonly dtype?: DType;
  readonly device?: Device;
}

/**
 * Makes a tensor from a number, nested arrays of numbers, or a typed array (copied).
 *
 * A `Uint16Array` holds float16 or bfloat16 bits, and `dtype` must say which.
 *
 * @throws TorchError `ERR_TORCH_ARGUMENT` when rows differ in length or the shape does not fit the data.
 */
export function tensor(data: number | NestedNumbers | TypedArray, options: TensorOptions = {}): Tensor {
  const { device = 'cpu' } = options;
  if (ArrayBuffer.isView(data)) return fromTypedArray(data, options, device);
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = level[0]) shape.push(level.length);
  const flat = new Float64Array(shape.reduce((product, size) => product * size, 1));
  fill(flat, data, shape, 0, 0);
  const dtype = options.dtype ?? 'float32';
  const array = dtype === 'float32' ? Float32Array.from(flat) : flat;
  return make(array, options.shape ?? shape, dtype === 'float32' ? 'float32' : 'float64', dtype, device);
}

function fill(
  flat: Float64Array,
  data: number | NestedNumbers,
  shape: number[],
  depth: number,
  offset: number,
): number {
  if (depth === shape.length) {
    if (typeof data === 'number' || typeof data === 'boolean') {
      flat[offset] = Number(data);
      return offset + 1;
    }
    throw new TorchError(
      'ERR_TORCH_ARGUMENT',
      `tensor: expected a number at depth ${depth}, got ${typeof data}`,
    );
  }
  if (!Array.isArray(data) || data.length !== shape[depth]) {
    const got = Array.isArray(data) ? `one of length ${data.length}` : typeof data;
    throw new TorchError(
      'ERR_TORCH_ARGUMENT',
      `tensor: all arrays at depth ${depth} must have the length of the first, ${shape[depth]}; got ${got}`,
    );
  }
  let next = offset;
  for (const entry of data) next = fill(flat, entry, shape, depth + 1, next);
  return next;
}

function fromTypedArray(data: TypedArray, options: TensorOptions, device: Device): Tensor {
  const shape = options.shape ?? [data.length];
  if (data instanceof Uint16Array) {
    if (options.dtype !== 'float16' && options.dtype !== 'bfloat16') {
      throw new TorchError(
        'ERR_TORCH_ARGUMENT',
        "tensor: a Uint16Array holds raw float16 or bfloat16 bits; say which with {dtype: 'float16'} or {dtype: 'bfloat16'}",
      );
    }
    return make(data, shape, options.dtype, options.dtype, device);
  }
  const [array, natural] = naturalArray(data);
  return make(array, shape, natural, options.dtype ?? natural, device);
}

/** The array (converted where libtorch has no such integers) and its element type. */
function naturalArray(data: Exclude<TypedArray, Uint16Array>): [TypedArray, DType] {
  if (data instanceof Float32Array) return [data, 'float32'];
  if (data instanceof Float64Array) return [data, 'float64'];
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return [data, 'uint8'];
  if (data instanceof BigInt64Array) return [data, 'int64'];
  if (data instanceof Int32Array) return [data, 'int32'];
  if (data instanceof Uint32Array) return [BigInt64Array.from(data, BigInt), 'int64'];
  return [Int32Array.from(data), 'int32'];
}

function make(
  array: TypedArray,
  shape: readonly number[],
  natural: DType,
  dtype: DType,
  device: Device,
): Tensor {
  const numel = shape.reduce((product, size) => product * size, 1);
  if (numel !== array.length || shape.some((size) => !Number.isInteger(size) || size < 0)) {
    throw new TorchError(
      'ERR_TORCH_ARGUMENT',
      `tensor: shape [${shape.join(', ')}] holds ${numel} elements, the data has ${array.length}`,
    );
  }
  const addon = native();
  if (natural === dtype) return new Tensor(addon.fromBytes(array, shape, dtype, device));
  const raw = addon.fromBytes(array, shape, natural, 'cpu');
  try {
    return new Tensor(to.f(raw, dtype, device));
  } finally {
    addon.release(raw);
  }
}
