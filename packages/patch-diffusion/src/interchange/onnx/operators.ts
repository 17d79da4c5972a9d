/**
 * libtorch's operators as ONNX's, version 18 and newer: those that the denoisers and the autoencoder's decoder call when
 * they sample. Elementwise operators cast to the type of their result, as libtorch promotes types.
 */

import type { DType } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { ONNX_TYPES, type Value } from '../../formats/onnx/graph.js';
import { type Emitter, onnxType } from './emitter.js';
import { type Dim, isSymbolic, productOf, sameShape } from './sizes.js';
import type { TracedArgument, TracedCall, TracedTensor } from './trace.js';

/** Gives the values of a call's results. */
type Mapping = (e: Emitter, call: TracedCall) => readonly Value[] | Value;

/**
 * Adds a call to the graph.
 * @throws Error for an operator that has no counterpart here
 */
export function emitCall(e: Emitter, call: TracedCall): void {
  const mapping = OPERATORS[call.operator];
  if (!mapping) throw new Error(`internal: no ONNX operator stands for ${call.operator}`);
  const values = [mapping(e, call)].flat();
  for (const [i, result] of call.results.entries()) e.set(result, values[i]);
}

// ---- Arguments ----

const isTensor = (value: TracedArgument): value is TracedTensor =>
  typeof value === 'object' && value !== null && 'key' in value;

function tensor({ operator, args }: TracedCall, name: string): TracedTensor {
  const value = args[name];
  if (isTensor(value)) return value;
  throw new Error(`internal: ${operator} has no tensor ${name}`);
}

const optionalTensor = ({ args }: TracedCall, name: string): TracedTensor | null => {
  const value = args[name];
  return isTensor(value) ? value : null;
};

/** A number that is the same for all sizes. */
function number({ operator, args }: TracedCall, name: string, absent?: number): number {
  const value = args[name] ?? absent;
  if (typeof value === 'number') return value;
  throw new Error(`internal: ${operator}: ${name} is not known before the network runs`);
}

/** Numbers of which a single one stands for all. */
function pair(call: TracedCall, name: string, absent: number): [number, number] {
  const value = call.args[name] ?? absent;
  if (typeof value === 'number') return [value, value];
  const [a, b = a] = value as number[];
  return [a, b];
}

/** An axis, counted from the front. */
function axisOf(call: TracedCall, name: string, { shape }: TracedTensor, absent?: number): number {
  const axis = number(call, name, absent);
  return axis < 0 ? axis + shape.length : axis;
}

function known(dim: Dim): number {
  if (isSymbolic(dim)) throw new Error('internal: a size that must be known depends on the input');
  return dim;
}

/** A tensor or number as an operand of an elementwise operator. */
function operand(e: Emitter, value: TracedArgument, dtype: DType): Value {
  if (isTensor(value)) return e.cast(value, dtype);
  if (typeof value === 'number' || typeof value === 'boolean') return e.scalar(value, dtype);
  throw new Error('internal: an operand is neither a tensor nor a number');
}

/** `value` multiplied by a number where that is not 1. */
function scaled(e: Emitter, value: Value, factor: TracedArgument, dtype: DType): Value {
  return factor === undefined || factor === null || factor === 1
    ? value
    : e.graph.node('Mul', [value, operand(e, factor, dtype)]);
}

// ---- Kinds of mappings ----

const unary =
  (type: string): Mapping =>
  (e, call) =>
    e.graph.node(type, [e.cast(tensor(call, 'self'), call.results[0].dtype)]);

/** `self ∘ other`, of which `other` may be multiplied by `alpha`. */
const binary =
  (type: string): Mapping =>
  (e, { args, results: [{ dtype }] }) => {
    const other = scaled(e, operand(e, args.other, dtype), args.alpha, dtype);
    return e.graph.node(type, [operand(e, args.self, dtype), other]);
  };

const same: Mapping = (e, call) => e.value(tensor(call, 'self'));

const reshape: Mapping = (e, call) => {
  const self = tensor(call, 'self');
  return e.reshape(e.value(self), self.shape, call.results[0].shape);
};

const permute =
  (permutation: (call: TracedCall, self: TracedTensor) => readonly number[]): Mapping =>
  (e, call) => {
    const self = tensor(call, 'self');
    return e.graph.transpose(e.value(self), permutation(call, self));
  };

const matmul =
  (other: string): Mapping =>
  (e, call) =>
    e.graph.node('MatMul', [e.value(tensor(call, 'self')), e.value(tensor(call, other))]);

function silu(e: Emitter, x: Value): Value {
  return e.graph.node('Mul', [x, e.graph.node('Sigmoid', [x])]);
}

/** The last two axes of a value with `rank` axes, swapped. */
function swapLast(e: Emitter, value: Value, rank: number): Value {
  const axes = Array.from({ length: rank }, (_, i) => i);
  return e.graph.transpose(value, [...axes.slice(0, -2), rank - 1, rank - 2]);
}

/** Into several along one dimension. */
const split: Mapping = (e, call) => {
  const self = tensor(call, 'self');
  const axis = axisOf(call, 'dim', self, 0);
  const sizes = e.graph.ints(call.results.map(({ shape }) => known(shape[axis])));
  return e.graph.nodes('Split', [e.value(self), sizes], { axis }, call.results.length);
};

/**
 * act((norm(x + add) · weight + bias) · (1 + scale) + shift), with ONNX's instance normalisation, which all runtimes have,
 * over [N, groups, rest].
 */
const groupNormAct: Mapping = (e, call) => {
  const { graph } = e;
  const x = tensor(call, 'x');
  const { dtype, shape } = x;
  const channels = known(shape[1]);
  const groups = number(call, 'groups');
  const grouped = [shape[0], groups, productOf([channels / groups, ...shape.slice(2)])];
  const ones = shape.slice(2).map(() => 1);
  /** Combines a value with a tensor [N, C] or [C], where there is one. */
  const combine = (type: string, value: Value, name: string, change = (other: Value) => other): Value => {
    const other = optionalTensor(call, name);
    if (!other) return value;
    const reshaped = e.reshaped(other, dtype, [...other.shape, ...ones]);
    return graph.node(type, [value, change(reshaped)]);
  };
  const vector = (fill: number) =>
    e.constant(`${dtype}_${fill}_x${groups}`, () => torch.full([groups], fill, { dtype }));

  const sum = combine('Add', e.value(x), 'add');
  const normed = graph.node('InstanceNormalization', [e.reshape(sum, shape, grouped), vector(1), vector(0)], {
    epsilon: { float: number(call, 'eps', 1e-5) },
  });
  let y = e.reshape(normed, grouped, shape);
  y = combine('Mul', y, 'weight');
  y = combine('Add', y, 'bias');
  y = combine('Mul', y, 'scale', (scale) => graph.node('Add', [scale, e.scalar(1, dtype)]));
  y = combine('Add', y, 'shift');
  return call.args.silu === true ? silu(e, y) : y;
};

/** softmax(query · keyᵀ · scale) · value. The scores are float32, as in libtorch's kernels. */
const attention: Mapping = (e, call) => {
  const { graph } = e;
  const [query, key, value] = ['query', 'key', 'value'].map((name) => tensor(call, name));
  if (optionalTensor(call, 'attn_mask') || call.args.is_causal === true)
    throw new Error('internal: masked attention is not exported');
  const { dtype, shape } = query;
  const scale = number(call, 'scale', 1 / Math.sqrt(known(shape.at(-1)!)));
  const scaledQuery = graph.node('Mul', [e.value(query), e.scalar(scale, dtype)]);
  const scores = graph.node('MatMul', [scaledQuery, swapLast(e, e.value(key), key.shape.length)]);
  const exact = dtype === 'float32' ? scores : graph.node('Cast', [scores], { to: ONNX_TYPES.float32 });
  const weights = graph.node('Softmax', [exact], { axis: -1 });
  const rounded =
    dtype === 'float32' ? weights : graph.node('Cast', [weights], { to: ONNX_TYPES[onnxType(dtype)] });
  return graph.node('MatMul', [rounded, e.value(value)]);
};

const convolution =
  (type: 'Conv' | 'ConvTranspose'): Mapping =>
  (e, call) => {
    const [top, left] = pair(call, 'padding', 0);
    const inputs = [
      e.value(tensor(call, 'input')),
      e.weight(tensor(call, 'weight'), type === 'Conv' ? 0 : 1),
    ];
    const bias = optionalTensor(call, 'bias');
    if (bias) inputs.push(e.value(bias));
    return e.graph.node(type, inputs, {
      strides: pair(call, 'stride', 1),
      pads: [top, left, top, left],
      dilations: pair(call, 'dilation', 1),
      group: number(call, 'groups', 1),
      ...(type === 'ConvTranspose' ? { output_padding: pair(call, 'output_padding', 0) } : {}),
    });
  };

const OPERATORS: Readonly<Record<string, Mapping>> = {
  // The same elements
  to: (e, call) => e.cast(tensor(call, 'self'), call.results[0].dtype),
  contiguous: same,
  reshape,
  flatten: reshape,
  unsqueeze: reshape,
  squeeze: reshape,
  expand: (e, call) => {
    const self = tensor(call, 'self');
    if (sameShape(self.shape, call.results[0].shape)) return e.value(self);
    throw new Error('internal: an expanded tensor is not exported');
  },
  transpose: permute((call, self) => {
    const axes = self.shape.map((_, i) => i);
    const [a, b] = [axisOf(call, 'dim0', self), axisOf(call, 'dim1', self)];
    [axes[a], axes[b]] = [axes[b], axes[a]];
    return axes;
  }),
  permute: permute(({ args }, { shape }) =>
    (args.dims as number[]).map((axis) => (axis < 0 ? axis + shape.length : axis)),
  ),

  // Joining and cutting
  cat: (e, call) => {
    const parts = (call.args.tensors as TracedTensor[]).map((part) => e.cast(part, call.results[0].dtype));
    return e.graph.node('Concat', parts, { axis: axisOf(call, 'dim', call.results[0], 0) });
  },
  chunk: split,
  split,
  narrow: (e, call) => {
    const self = tensor(call, 'self');
    const start = number(call, 'start');
    const [starts, ends] = [start, start + number(call, 'length')].map((at) => e.graph.ints([at]));
    return e.graph.node('Slice', [e.value(self), starts, ends, e.graph.ints([axisOf(call, 'dim', self)])]);
  },
  unbind: (e, call) => {
    const self = tensor(call, 'self');
    const axis = axisOf(call, 'dim', self, 0);
    return call.results.map((_, i) =>
      e.graph.node('Gather', [e.value(self), e.scalar(i, 'int64')], { axis }),
    );
  },

  // Elementwise
  cos: unary('Cos'),
  sin: unary('Sin'),
  sqrt: unary('Sqrt'),
  log: unary('Log'),
  neg: unary('Neg'),
  reciprocal: unary('Reciprocal'),
  rsqrt: (e, call) => e.graph.node('Reciprocal', [e.graph.node('Sqrt', [e.value(tensor(call, 'self'))])]),
  square: (e, call) => {
    const x = e.value(tensor(call, 'self'));
    return e.graph.node('Mul', [x, x]);
  },
  silu: (e, call) => silu(e, e.value(tensor(call, 'self'))),
  add: binary('Add'),
  sub: binary('Sub'),
  mul: binary('Mul'),
  div: binary('Div'),
  addcmul: (e, { args, results: [{ dtype }] }) => {
    const product = e.graph.node('Mul', [operand(e, args.tensor1, dtype), operand(e, args.tensor2, dtype)]);
    return e.graph.node('Add', [operand(e, args.self, dtype), scaled(e, product, args.value, dtype)]);
  },
  outer: (e, call) => {
    const [a, b] = [tensor(call, 'self'), tensor(call, 'vec2')];
    return e.graph.node('Mul', [e.reshape(e.value(a), a.shape, [a.shape[0], 1]), e.value(b)]);
  },
  clamp_min: (e, { args, results: [{ dtype }] }) =>
    e.graph.node('Max', [operand(e, args.self, dtype), operand(e, args.min, dtype)]),

  // Over axes
  argmin: (e, call) => {
    const self = tensor(call, 'self');
    const keepdims = call.args.keepdim === true ? 1 : 0;
    return e.graph.node('ArgMin', [e.value(self)], { axis: axisOf(call, 'dim', self), keepdims });
  },
  softmax: (e, call) =>
    e.graph.node('Softmax', [e.cast(tensor(call, 'self'), call.results[0].dtype)], {
      axis: number(call, 'dim'),
    }),

  // Products
  matmul: matmul('other'),
  bmm: matmul('mat2'),
  linear: (e, call) => {
    const [input, weight] = [tensor(call, 'input'), tensor(call, 'weight')];
    const bias = optionalTensor(call, 'bias');
    const inputs = [e.value(input), e.weight(weight, 0)];
    if (input.shape.length === 2) {
      if (bias) inputs.push(e.value(bias));
      return e.graph.node('Gemm', inputs, { transB: 1 });
    }
    const product = e.graph.node('MatMul', [inputs[0], e.graph.transpose(inputs[1], [1, 0])]);
    return bias ? e.graph.node('Add', [product, e.value(bias)]) : product;
  },
  scaled_dot_product_attention: attention,

  // Layers
  conv2d: convolution('Conv'),
  conv_transpose2d: convolution('ConvTranspose'),
  avg_pool2d: (e, call) => {
    const kernel = pair(call, 'kernel_size', 1);
    const stride = call.args.stride ?? [];
    const strides = Array.isArray(stride) && !stride.length ? kernel : pair(call, 'stride', 1);
    return e.graph.node('AveragePool', [e.value(tensor(call, 'self'))], { kernel_shape: kernel, strides });
  },
  upsample_nearest2d: (e, call) => {
    const input = tensor(call, 'input');
    const factor = (dim: Dim) => (isSymbolic(dim) ? dim.factor : dim);
    const scales = call.results[0].shape.map((dim, i) => factor(dim) / factor(input.shape[i]));
    const values = e.constant(`scales_${scales.join('x')}`, () => torch.tensor(scales));
    return e.graph.node('Resize', [e.value(input), '', values], {
      ...{ mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    });
  },
  'patch_diffusion::group_norm_act': groupNormAct,
};
