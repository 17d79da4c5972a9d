/** Python names that an allow-list knows, marked so that no value of a pickle can pass for one. */
import { ByteSlice } from './byte-source.js';

/** A Python name that the allow-list knows. */
export interface PickleGlobal {
  /** `module.name` */
  readonly name: string;
  /** What calling it gives; absent where it is not callable. */
  readonly call?: (args: readonly unknown[]) => unknown;
}

/** Is this a name from the allow-list? */
export function isGlobal(value: unknown): value is PickleGlobal {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === globalPrototype;
}

const globalPrototype = Object.freeze({});

/** An entry of an allow-list. Its prototype marks it, so that no value of a pickle can pass for one. */
export function defineGlobal(name: string, call?: (args: readonly unknown[]) => unknown): PickleGlobal {
  return Object.freeze(
    Object.assign(Object.create(globalPrototype) as object, { name, call }),
  ) as PickleGlobal;
}

/** Kinds of values, for messages. */
export function describe(value: unknown): string {
  if (isGlobal(value)) return value.name;
  if (value instanceof ByteSlice) return 'bytes';
  return value === null ? 'None' : `a value of type ${value?.constructor?.name ?? typeof value}`;
}
