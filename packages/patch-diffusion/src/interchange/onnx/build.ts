/** A module's forward pass as an ONNX graph. */
import { type OnnxDim, OnnxGraph, type Value } from '../../formats/onnx/graph.js';
import { Emitter, onnxType, type StoredWeights } from './emitter.js';
import { emitCall } from './operators.js';
import { type Dim, isSymbolic } from './sizes.js';
import { type Traceable, type TracedTensor, trace } from './trace.js';

export interface BuildOptions {
  /** Name of the graph. */
  readonly name: string;
  /** Name of its only output. */
  readonly output: string;
  readonly weights: StoredWeights;
}

/**
 * Records a module and builds its graph. The first input is the one with axes N, C, H, W that all sizes are taken from.
 * @throws TorchError where libtorch cannot compute the module so, such as in float16 on an old one
 * @throws UserError where weights are infinite in the type asked for
 */
export function buildGraph(traceable: Traceable, { name, output, weights }: BuildOptions): OnnxGraph {
  // On channels that lie side by side, layers compute 1×1 convolutions in a way that suits libtorch alone.
  traceable.module.to({ memoryFormat: 'contiguous' });
  const traced = trace(traceable);
  try {
    const graph = new OnnxGraph(name);
    const emitter = new Emitter(graph, traced.constants, traced.inputs[0].key as Value, weights);
    for (const input of traced.inputs)
      emitter.set(input, graph.input(input.key, onnxType(input.dtype), dimsOf(input)));
    for (const call of traced.calls) {
      // What depends on constants alone is known already; those in another type are named after the original.
      const isKnown = call.results.every(({ key }) => traced.constants.has(key));
      if (!isKnown || call.operator === 'to') emitCall(emitter, call);
    }
    const { dtype } = traced.output;
    graph.output(output, onnxType(dtype), dimsOf(traced.output), emitter.value(traced.output));
    return graph;
  } finally {
    traced.dispose();
  }
}

const dimsOf = ({ shape }: TracedTensor): OnnxDim[] => shape.map(nameOf);

/** A size for the file: a number, "height", or "8*height". */
function nameOf(dim: Dim): OnnxDim {
  if (!isSymbolic(dim)) return dim;
  const product = [...(dim.factor === 1 ? [] : [dim.factor]), ...dim.of].join('*');
  return dim.offset === 0 ? product : `${product} + ${dim.offset}`;
}
