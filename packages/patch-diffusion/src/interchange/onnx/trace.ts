/** A network's forward pass as a list of operator calls whose sizes are symbolic. */

import type {
  DType,
  Module,
  RecordedArgument,
  RecordedTensor,
  Recording,
  Tensor,
} from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type Dim, generalise, recordingSizes, type Sizes } from './sizes.js';

/** What is recorded: a module, some of its inputs, and how it runs on them. */
export interface Traceable {
  readonly module: Module;
  /** Both sides of the input must be divided by this. */
  readonly multiple: number;
  /** The inputs by their names in the file. Called in a scope. */
  inputs(sizes: Sizes): Readonly<Record<string, Tensor>>;
  /** Called in a scope without gradients. */
  forward(inputs: Readonly<Record<string, Tensor>>): Tensor;
}

export interface TracedTensor {
  /** The name of an input or of a tensor of the module, else the number of the call that made it. */
  readonly key: string;
  readonly shape: readonly Dim[];
  readonly dtype: DType;
}

export type TracedArgument =
  | TracedTensor
  | Dim
  | readonly TracedArgument[]
  | bigint
  | boolean
  | string
  | null
  | undefined;

export interface TracedCall {
  readonly operator: string;
  readonly args: Readonly<Record<string, TracedArgument>>;
  readonly results: readonly TracedTensor[];
}

export interface Trace {
  readonly inputs: readonly TracedTensor[];
  readonly calls: readonly TracedCall[];
  readonly output: TracedTensor;
  /** Tensors of the module, and what was computed from them alone, by key. Computed ones are the caller's to dispose. */
  readonly constants: ReadonlyMap<string, Tensor>;
  /** Frees the computed constants. */
  dispose(): void;
}

/** One recording. */
interface Pass {
  readonly recording: Recording<unknown>;
  readonly inputs: readonly RecordedTensor[];
  readonly output: RecordedTensor;
  /** What the ids of its tensors stand for. */
  readonly keys: ReadonlyMap<number, string>;
}

/**
 * Records the module with several sizes and finds what its sizes depend on.
 * @throws TorchError where libtorch cannot compute the module so, such as in float16 on an old one
 */
export function trace(traceable: Traceable): Trace {
  const sizes = recordingSizes(traceable.multiple);
  const state = traceable.module.stateDict();
  const passes = sizes.map((size) => record(traceable, size, state));
  const [first, ...others] = passes;
  for (const { recording } of others) disposeConstants(recording);
  return {
    ...generaliseAll(passes, sizes),
    constants: new Map([
      ...state,
      ...Array.from(first.recording.constants, ([id, value]) => [first.keys.get(id)!, value] as const),
    ]),
    dispose: () => disposeConstants(first.recording),
  };
}

function disposeConstants({ constants }: Recording<unknown>): void {
  for (const tensor of constants.values()) tensor.dispose();
}

function record(traceable: Traceable, sizes: Sizes, state: ReadonlyMap<string, Tensor>): Pass {
  return torch.noGrad(() =>
    torch.scope(() => {
      const inputs = traceable.inputs(sizes);
      const tensors = Object.values(inputs);
      const recording = torch.recordOperators(
        () => described(torch.scope(() => traceable.forward(inputs))),
        tensors,
      );
      const keys = new Map<number, string>();
      for (const [name, tensor] of [...Object.entries(inputs), ...state])
        keys.set(torch.tensorId(tensor), name);
      for (const [i, { results }] of recording.calls.entries())
        for (const [k, { id }] of results.entries()) keys.set(id, `${i}.${k}`);
      return { recording, inputs: tensors.map(described), output: recording.result, keys };
    }),
  );
}

function described(tensor: Tensor): RecordedTensor {
  return { id: torch.tensorId(tensor), shape: tensor.shape, dtype: tensor.dtype };
}

/** What all passes have in common, with symbolic sizes. */
function generaliseAll(
  passes: readonly Pass[],
  sizes: readonly Sizes[],
): Pick<Trace, 'inputs' | 'calls' | 'output'> {
  const tensor = (tensors: readonly RecordedTensor[]): TracedTensor => {
    const keys = tensors.map(({ id }, i) => passes[i].keys.get(id));
    if (keys[0] === undefined || keys.some((key) => key !== keys[0]))
      throw new Error('internal: a forward pass used a tensor of unknown origin');
    const shape = tensors[0].shape.map((_, axis) =>
      generalise(
        tensors.map((one) => one.shape[axis]),
        sizes,
      ),
    );
    return { key: keys[0], shape, dtype: tensors[0].dtype };
  };
  const argument = (values: readonly RecordedArgument[]): TracedArgument => {
    const [value] = values;
    if (typeof value === 'number') return generalise(values as number[], sizes);
    if (isList(value)) return value.map((_, i) => argument(values.map((list) => isList(list) && list[i])));
    if (typeof value === 'object' && value !== null) return tensor(values as RecordedTensor[]);
    return value;
  };
  const [first] = passes;
  const calls = first.recording.calls.map((call, i): TracedCall => {
    const same = passes.map(({ recording }) => recording.calls[i]);
    const [a, ...rest] = same.map((one) => `${one?.operator}.${one?.overload} ${one?.results.length}`);
    if (rest.some((b) => a !== b))
      throw new Error(
        `internal: the operators of a forward pass depend on the size of its input: ${a}, ${rest}`,
      );
    return {
      operator: call.operator,
      args: Object.fromEntries(
        Object.keys(call.args).map((name) => [name, argument(same.map(({ args }) => args[name]))]),
      ),
      results: call.results.map((_, k) => tensor(same.map(({ results }) => results[k]))),
    };
  });
  return {
    inputs: first.inputs.map((_, k) => tensor(passes.map(({ inputs }) => inputs[k]))),
    calls,
    output: tensor(passes.map(({ output }) => output)),
  };
}

function isList(value: RecordedArgument): value is readonly RecordedArgument[] {
  return Array.isArray(value);
}
