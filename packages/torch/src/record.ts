/**
 * Recording which operators a function calls, with all arguments: what a program needs that turns a network into a
 * graph for other runtimes.
 */
import { synchronous } from './autograd.js';
import type { DType } from './dtype.js';
import { native } from './native.js';
import { observeCalls } from './ops/bind.js';
import { unscoped } from './scope.js';
import { Tensor } from './tensor.js';

/** A tensor as it was when an operator took or gave it. */
export interface RecordedTensor {
  /** The same for the same handle; see {@link tensorId}. */
  readonly id: number;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** An argument of a recorded call; undefined where none was given. */
export type RecordedArgument =
  | RecordedTensor
  | readonly RecordedArgument[]
  | number
  | bigint
  | boolean
  | string
  | null
  | undefined;

export interface RecordedCall {
  /** Name in libtorch's schema (`conv2d`), with the namespace where it is not `aten`. */
  readonly operator: string;
  /** `''` for the default one. */
  readonly overload: string;
  /** By the names in the schema. */
  readonly args: Readonly<Record<string, RecordedArgument>>;
  /** Empty for an operator that writes into its first argument, or gives no tensor. */
  readonly results: readonly RecordedTensor[];
}

export interface Recording<T> {
  /** What the function returned. */
  readonly result: T;
  readonly calls: readonly RecordedCall[];
  /** The results that depend on none of the inputs, by their ids. The caller disposes them. */
  readonly constants: ReadonlyMap<number, Tensor>;
}

/** A handle is a generation, from 1, above a slot of 24 bits (native/table.h): sizes and dimensions are smaller. */
const SMALLEST_HANDLE = 2 ** 24;

let isRecording = false;

/** The number by which a recording knows a tensor. Two handles to the same memory have two. */
export function tensorId(tensor: Tensor): number {
  return tensor._h;
}

/**
 * Runs `fn` and lists the operators that it calls, in order. Scopes inside work as ever: a recorded tensor may be gone
 * afterwards. Tensors that `fn` makes from JavaScript data have ids, but no call.
 *
 * @param inputs - Tensors that stand for data which is not known yet.
 * @throws Error when `fn` records, too, or returns a promise.
 */
export function recordOperators<T>(fn: () => T, inputs: readonly Tensor[]): Recording<T> {
  if (isRecording) throw new Error('recordOperators: another recording is under way');
  const calls: RecordedCall[] = [];
  const constants = new Map<number, Tensor>();
  const dependent = new Set(inputs.map(tensorId));
  observeCalls((operator, args, result) => {
    const names = operator.argumentNames.split(' ');
    const call: RecordedCall = {
      operator: operator.name,
      overload: operator.overload,
      args: Object.fromEntries(args.map((value, i) => [names[i], recorded(value)])),
      results: [recorded(result)].flat().filter(isTensor),
    };
    calls.push(call);
    const depends = Object.values(call.args)
      .flat()
      .some((value) => isTensor(value) && dependent.has(value.id));
    for (const { id } of call.results) {
      if (depends) dependent.add(id);
      else
        constants.set(
          id,
          unscoped(() => new Tensor(native().alias(id))),
        );
    }
  });
  isRecording = true;
  try {
    return { result: synchronous('recordOperators', fn()), calls, constants };
  } catch (error) {
    for (const tensor of constants.values()) tensor.dispose();
    throw error;
  } finally {
    isRecording = false;
    observeCalls(null);
  }
}

function isTensor(value: RecordedArgument): value is RecordedTensor {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function recorded(value: unknown): RecordedArgument {
  if (Array.isArray(value)) return value.map(recorded);
  if (typeof value === 'number' && value >= SMALLEST_HANDLE && Number.isInteger(value)) {
    return tensorOf(value) ?? value;
  }
  // A generator: only random operators take one.
  if (typeof value === 'object' && value !== null) return 'generator';
  return value as RecordedArgument;
}

/** Null for a large number that is no tensor's handle. */
function tensorOf(id: number): RecordedTensor | null {
  try {
    return { id, shape: native().shape(id), dtype: native().dtype(id) as DType };
  } catch {
    return null;
  }
}
