/**
 * From traced tensors to values of an ONNX graph: constants (also quantised), numbers, casts, and shapes that are computed
 * when the graph runs. The operators themselves are in operators.ts.
 */
import type { DType, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import {
  ONNX_TYPES,
  type OnnxGraph,
  type OnnxTensor,
  type OnnxType,
  type Value,
} from '../../formats/onnx/graph.js';
import { quantise } from './quantise.js';
import { type Dim, isSymbolic, type SymbolicSize, sameDim, sameShape } from './sizes.js';
import type { TracedTensor } from './trace.js';

/** The type in which weights are stored that the graph turns into float32. */
export type StoredWeights = 'float32' | 'float16' | 'int8';

export class Emitter {
  /** The values of traced tensors, by key. */
  readonly #values = new Map<string, Value>();

  /**
   * @param constants tensors that are known now, by key
   * @param imageInput the input with axes N, C, H, W that all sizes are taken from
   * @param weights how those of layers that compute in float32 are stored
   */
  constructor(
    readonly graph: OnnxGraph,
    readonly constants: ReadonlyMap<string, Tensor>,
    readonly imageInput: Value,
    readonly weights: StoredWeights,
  ) {}

  /** Says what stands for a traced tensor. */
  set({ key }: TracedTensor, value: Value): void {
    this.#values.set(key, value);
  }

  /** What stands for a traced tensor; a constant is put into the graph at its first use. */
  value({ key, shape }: TracedTensor): Value {
    const value = this.#values.get(key);
    if (value !== undefined) return value;
    const constant = this.constants.get(key);
    if (constant === undefined || shape.some(isSymbolic))
      throw new Error(`internal: nothing stands for the tensor ${key}`);
    return this.graph.initializer(nameOf(key), () => onnxTensor(constant, key));
  }

  /** The value in another type. */
  cast(tensor: TracedTensor, dtype: DType): Value {
    if (tensor.dtype === dtype) return this.value(tensor);
    const constant = this.constants.get(tensor.key);
    if (constant) return this.constant(`${tensor.key}_${dtype}`, () => constant.to({ dtype }));
    return this.graph.node('Cast', [this.value(tensor)], { to: ONNX_TYPES[onnxType(dtype)] });
  }

  /** A constant that is made of others. */
  constant(key: string, make: () => Tensor): Value {
    return this.graph.initializer(nameOf(key), () => torch.scope(() => onnxTensor(make(), key)));
  }

  /** The value in another type and shape, of the same elements. */
  reshaped(tensor: TracedTensor, dtype: DType, shape: readonly Dim[]): Value {
    const constant = this.constants.get(tensor.key);
    if (!constant) return this.reshape(this.cast(tensor, dtype), tensor.shape, shape);
    const key = `${tensor.key}_${dtype}_${shape.join('x')}`;
    return this.constant(key, () => constant.to({ dtype }).reshape(shape as number[]));
  }

  /** One number, of no dimensions. */
  scalar(number: number | bigint | boolean, dtype: DType): Value {
    const name = `${dtype}_${String(number).replaceAll('-', 'm').replaceAll('.', 'p').replaceAll('+', '')}`;
    return this.constant(name, () =>
      dtype === 'int64'
        ? torch.tensor(BigInt64Array.of(BigInt(number)), { shape: [] })
        : torch.tensor(Number(number), { dtype }),
    );
  }

  /** The weight of a layer; `outputAxis` is that of the layer's outputs. */
  weight(tensor: TracedTensor, outputAxis: number): Value {
    const { graph, weights } = this;
    const constant = this.constants.get(tensor.key);
    // Filters of resampling, with one input channel, stay exact.
    const isStored = constant?.dtype === 'float32' && constant.shape[1] > 1;
    if (weights === 'float32' || !isStored) return this.value(tensor);
    if (weights === 'float16') {
      const half = this.cast(tensor, 'float16');
      return graph.node('Cast', [half], { to: ONNX_TYPES.float32 });
    }
    checkFinite(constant, tensor.key);
    const { values, scales } = quantise(constant, outputAxis);
    const inputs = [
      graph.initializer(`${tensor.key}_int8`, () => values),
      graph.initializer(`${tensor.key}_scale`, () => scales),
    ];
    return graph.node('DequantizeLinear', inputs, { axis: outputAxis });
  }

  /** The same elements in another shape. */
  reshape(value: Value, from: readonly Dim[], to: readonly Dim[]): Value {
    if (sameShape(from, to)) return value;
    // In the shape that ONNX's Reshape takes, 0 is the input's own size there, and one size may be −1, what remains.
    const open = to.map((dim, i) => isSymbolic(dim) && !sameDim(dim, from[i]));
    const remaining = open.lastIndexOf(true);
    const parts = to.map((dim, i): Dim => {
      if (i === remaining) return -1;
      return isSymbolic(dim) && !open[i] ? 0 : dim;
    });
    return this.graph.node('Reshape', [value, this.#vector(parts)]);
  }

  /** An int64 vector of sizes. */
  #vector(dims: readonly Dim[]): Value {
    if (!dims.some(isSymbolic)) return this.graph.ints(dims as number[]);
    const parts = dims.map((dim) => (isSymbolic(dim) ? this.#size(dim) : this.graph.ints([dim])));
    return this.graph.node('Concat', parts, { axis: 0 });
  }

  /** A size that is computed when the graph runs, an int64 vector of one. */
  #size({ factor, of, offset }: SymbolicSize): Value {
    const { graph, imageInput } = this;
    const axes = { batch: 0, height: 2, width: 3 } satisfies Record<SymbolicSize['of'][number], number>;
    const sizes = of.map((name) =>
      graph.node('Shape', [imageInput], { start: axes[name], end: axes[name] + 1 }),
    );
    let size = sizes.reduce((a, b) => graph.node('Mul', [a, b]));
    // Factors are numbers of channels, divided by powers of 2.
    let divisor = 1;
    while (!Number.isInteger(factor * divisor)) divisor *= 2;
    if (factor * divisor !== 1) size = graph.node('Mul', [size, graph.ints([factor * divisor])]);
    if (divisor !== 1) size = graph.node('Div', [size, graph.ints([divisor])]);
    return offset === 0 ? size : graph.node('Add', [size, graph.ints([offset])]);
  }
}

/** @throws Error for types that no network here computes with */
export function onnxType(dtype: DType): OnnxType {
  if (dtype === 'float32' || dtype === 'float16' || dtype === 'int64') return dtype;
  throw new Error(`internal: no ONNX type stands for ${dtype}`);
}

function onnxTensor(tensor: Tensor, key: string): OnnxTensor {
  const type = onnxType(tensor.dtype);
  checkFinite(tensor, key);
  const { buffer, byteOffset, byteLength } = tensor.toTypedArray();
  return { type, shape: tensor.shape, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
}

/** @throws UserError where a weight became infinite in float16, or is not finite at all */
function checkFinite(tensor: Tensor, key: string): void {
  if (tensor.dtype === 'int64' || torch.scope(() => tensor.isfinite().all().item())) return;
  const reason =
    tensor.dtype === 'float16'
      ? 'holds values that float16 cannot hold; export with --precision fp32 or int8'
      : 'holds values that are not finite; export an earlier snapshot';
  throw new UserError('NOT_FINITE', `the tensor ${key} ${reason}`);
}

/** Keys of computed constants begin with a digit. */
const nameOf = (key: string): string => (/^\d/.test(key) ? `constant_${key}` : key);
