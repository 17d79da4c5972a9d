/**
 * What the generated operators are made of: binding an operator at its first call, and turning tensors into
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

/**
 * Names an operator.
 *
 * @param name - Schema name, without `aten::`.
 * @param overload - Overload name, `''` for the default one.
 * @param argumentNames - The argument names in the order in which `f` gets them, separated by spaces. Names
 * that an older libtorch does not have are an error only when a value is given for them.
 */
export function op(name: string, overload: string, argumentNames: string): Op {
  const self: Op = {
    f: (...args) => {
      const bound = native().bindOp(name, overload, argumentNames);
      if (bound === null) {
        const full = overload ? `${name}.${overload}` : name;
        throw new TorchError(
          'ERR_TORCH_UNSUPPORTED',
          `${name}: libtorch ${native().version().torch} lacks this operator (aten::${full}); ask hasOp('${name}') first, or use a newer libtorch`,
          name,
        );
      }
      self.f = bound;
      return bound(...args);
    },
  };
  return self;
}

/** Handle of an optional tensor. */
export function h(tensor: Handle | null | undefined): number | undefined {
  return tensor === null || tensor === undefined ? undefined : tensor._h;
}

/** Handles of a list of tensors. */
export function hs(tensors: readonly (Handle | null)[] | null | undefined): (number | null)[] | undefined {
  if (tensors === null || tensors === undefined) return undefined;
  const handles = new Array<number | null>(tensors.length);
  for (let i = 0; i < tensors.length; i++) handles[i] = tensors[i]?._h ?? null;
  return handles;
}

/** The native object of an optional generator. */
export function g(generator: { readonly _g: unknown } | null | undefined): unknown {
  return generator?._g;
}
