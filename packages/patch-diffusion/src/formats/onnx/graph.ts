/**
 * A graph of ONNX operators under construction. A node that was asked for before is not made twice, a permutation of a
 * permutation is one, and what no output needs is left out. Knows nothing of libtorch.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  type GraphProto,
  GraphProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  TensorProto_DataType as Type,
  type ValueInfoProtoSchema,
} from './onnx_pb.js';

export const ONNX_TYPES = {
  float32: Type.FLOAT,
  float16: Type.FLOAT16,
  int64: Type.INT64,
  int8: Type.INT8,
} as const;
export type OnnxType = keyof typeof ONNX_TYPES;

/** Names a value of the graph: an input, an initialiser or a node's output. */
export type Value = string & { readonly __value: unique symbol };

/** The elements row by row, little-endian. */
export interface OnnxTensor {
  readonly type: OnnxType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Attributes: integers, lists of integers, texts; floating-point numbers are wrapped to tell them apart. */
export type Attributes = Readonly<Record<string, number | readonly number[] | string | { float: number }>>;

/** A number, or the name of a size that may differ between calls. */
export type OnnxDim = number | string;

interface Node {
  readonly type: string;
  readonly inputs: readonly (Value | '')[];
  readonly attributes: Attributes;
  readonly outputs: readonly Value[];
}

export class OnnxGraph {
  readonly #nodes: Node[] = [];
  readonly #byKey = new Map<string, Node>();
  readonly #producers = new Map<Value, Node>();
  readonly #initializers = new Map<Value, OnnxTensor>();
  readonly #inputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  readonly #outputs = new Map<Value, MessageInitShape<typeof ValueInfoProtoSchema>>();
  /** Of the outputs in the file. */
  readonly #names = new Map<Value, string>();

  constructor(readonly name: string) {}

  input(name: string, type: OnnxType, shape: readonly OnnxDim[]): Value {
    this.#inputs.push(valueInfo(name, type, shape));
    return name as Value;
  }

  /** Names a node's value and makes it an output. */
  output(name: string, type: OnnxType, shape: readonly OnnxDim[], value: Value): void {
    this.#names.set(value, name);
    this.#outputs.set(value, valueInfo(name, type, shape));
  }

  /** A constant; the second of a name is the first. */
  initializer(name: string, tensor: () => OnnxTensor): Value {
    const value = name as Value;
    if (!this.#initializers.has(value)) this.#initializers.set(value, tensor());
    return value;
  }

  /** An int64 vector. */
  ints(values: readonly number[]): Value {
    return this.initializer(`ints_${values.join('_').replaceAll('-', 'm')}`, () => ({
      ...{ type: 'int64', shape: [values.length] },
      bytes: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
    }));
  }

  /** The only output of a node. An input that is left out is ''. */
  node(type: string, inputs: readonly (Value | '')[], attributes: Attributes = {}): Value {
    return this.nodes(type, inputs, attributes, 1)[0];
  }

  /** All outputs of a node. */
  nodes(
    type: string,
    inputs: readonly (Value | '')[],
    attributes: Attributes,
    outputs: number,
  ): readonly Value[] {
    const key = JSON.stringify([type, inputs, attributes]);
    let node = this.#byKey.get(key);
    if (!node) {
      const stem = `${type.toLowerCase()}_${this.#nodes.length}`;
      const names = Array.from({ length: outputs }, (_, i) => (outputs > 1 ? `${stem}_${i}` : stem) as Value);
      node = { type, inputs, attributes, outputs: names };
      this.#nodes.push(node);
      this.#byKey.set(key, node);
      for (const name of names) this.#producers.set(name, node);
    }
    return node.outputs;
  }

  /** Axis i of the result is axis `permutation[i]` of the value. */
  transpose(value: Value, permutation: readonly number[]): Value {
    const before = this.#producers.get(value);
    if (before?.type === 'Transpose') {
      const first = before.attributes.perm as readonly number[];
      return this.transpose(
        before.inputs[0] as Value,
        permutation.map((axis) => first[axis]),
      );
    }
    const isIdentity = permutation.every((axis, i) => axis === i);
    return isIdentity ? value : this.node('Transpose', [value], { perm: permutation });
  }

  /** The nodes and initialisers that the outputs need, and all inputs. */
  build(): { graph: GraphProto; tensors: number; bytes: number } {
    const needed = new Set<Node>();
    const used = new Set<string>();
    const pending: string[] = [...this.#outputs.keys()];
    for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
      used.add(value);
      const node = this.#producers.get(value as Value);
      if (!node || needed.has(node)) continue;
      needed.add(node);
      pending.push(...node.inputs);
    }
    const initializers = [...this.#initializers].filter(([name]) => used.has(name));
    const graph = create(GraphProtoSchema, {
      name: this.name,
      node: this.#nodes.filter((node) => needed.has(node)).map((node) => this.#nodeProto(node)),
      initializer: initializers.map(([name, tensor]) => tensorProto(name, tensor)),
      input: this.#inputs,
      output: [...this.#outputs.values()],
    });
    const bytes = initializers.reduce((sum, [, tensor]) => sum + tensor.bytes.length, 0);
    return { graph, tensors: initializers.length, bytes };
  }

  #nodeProto({ type, inputs, attributes, outputs }: Node): MessageInitShape<typeof NodeProtoSchema> {
    const nameOf = (value: Value | '') => (value === '' ? '' : (this.#names.get(value) ?? value));
    return {
      ...{ opType: type, name: outputs[0], input: inputs.map(nameOf), output: outputs.map(nameOf) },
      attribute: Object.entries(attributes).map(([name, value]) => attributeProto(name, value)),
    };
  }
}

function attributeProto(
  name: string,
  value: Attributes[string],
): MessageInitShape<typeof AttributeProtoSchema> {
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === 'string')
    return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: value.map(BigInt) };
}

function tensorProto(
  name: string,
  { type, shape, bytes }: OnnxTensor,
): MessageInitShape<typeof TensorProtoSchema> {
  return { name, dataType: ONNX_TYPES[type], dims: shape.map(BigInt), rawData: bytes };
}

function valueInfo(
  name: string,
  type: OnnxType,
  shape: readonly OnnxDim[],
): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = shape.map((size) => ({
    value:
      typeof size === 'number'
        ? ({ case: 'dimValue', value: BigInt(size) } as const)
        : ({ case: 'dimParam', value: size } as const),
  }));
  const tensorType = { elemType: ONNX_TYPES[type], shape: { dim } };
  return { name, type: { value: { case: 'tensorType', value: tensorType } } };
}
