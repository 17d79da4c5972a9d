/**
 * Helpers of the generated operators: binding an operator at its first call, and turning tensors into
 * handles and back. Nothing here is public.
 */
import { TorchError } from '../errors.js';
import { type NativeOp, native } from '../native.js';
import type { Handle } from '../scope.js';

/** A value whose type the public signature has checked. */
// biome-ignore lint/suspicious/noExplicitAny: implementations of overloads; their signatures are typed.
export type Arg = any;

/** An operator that binds itself to libtorch at its first call. */
export interface Op {
  f: NativeOp;
}

/** Told of every call: the operator, its arguments in the order of `argumentNames`, tensors as handles, and its result. */
export type CallObserver = (
  operator: { readonly name: string; readonly overload: string; readonly argumentNames: string },
  args: readonly unknown[],
  result: unknown,
) => void;

/** One per operator: puts the observer between its callers and libtorch, or with null takes it away. */
const observable: ((observer: CallObserver | null) => void)[] = [];

/** Tells `observer` of every operator call from now on, or with null nobody. Without one, a call costs nothing more. */
export function observeCalls(observer: CallObserver | null): void {
  for (const operator of observable) operator(observer);
}

/**
 * Names an operator.
 *
 * @param name - Schema name, without `aten::`.
 * @param overload - Overload name, `''` for the default one.
 * @param argumentNames - The argument names in the order in which `f` gets them, separated by spaces. Names
 * that an older libtorch does not have are an error only when a value is given for them.
 */
export function op(name: string, overload: string, argumentNames: string): Op {
  let bound: NativeOp | undefined;
  const bind = (): NativeOp => {
    bound ??= lookUp(name, overload, argumentNames);
    return bound;
  };
  const first: NativeOp = (...args) => {
    self.f = bind();
    return self.f(...args);
  };
  const self: Op = { f: first };
  observable.push((observer) => {
    if (observer === null) {
      self.f = first;
      return;
    }
    self.f = (...args) => {
      const result = bind()(...args);
      observer({ name, overload, argumentNames }, args, result);
      return result;
    };
  });
  return self;
}

function lookUp(name: string, overload: string, argumentNames: string): NativeOp {
  const bound = native().bindOp(name, overload, argumentNames);
  if (bound !== null) return bound;
  const full = overload ? `${name}.${overload}` : name;
  throw new TorchError(
    'ERR_TORCH_UNSUPPORTED',
    `${name}: libtorch ${native().version().torch} lacks this operator (aten::${full}); ask hasOp('${name}') first, or use a newer libtorch`,
    name,
  );
}

/** Passed instead of a value of the wrong type: the addon names the argument in its error. */
const WRONG = false;

/** Handle of a tensor. */
export function h(tensor: Handle | null | undefined): number | false | undefined {
  return tensor === null || tensor === undefined ? undefined : (tensor._h ?? WRONG);
}

/** Handles of a list of tensors. */
export function hs(
  tensors: readonly (Handle | null)[] | null | undefined,
): (number | false | null)[] | false | undefined {
  if (tensors === null || tensors === undefined) return undefined;
  if (!Array.isArray(tensors)) return WRONG;
  const handles = new Array<number | false | null>(tensors.length);
  for (let i = 0; i < tensors.length; i++) handles[i] = h(tensors[i]) ?? null;
  return handles;
}

/** The native object of a generator. */
export function g(generator: { readonly _g: unknown } | null | undefined): unknown {
  return generator === null || generator === undefined ? undefined : (generator._g ?? WRONG);
}
