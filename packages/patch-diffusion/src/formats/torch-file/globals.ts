/**
 * The allow-list: the Python names that official checkpoints and PyTorch's own files use, and what each becomes.
 * Nothing on it runs code; the source text that official pickles carry with every class is dropped unread.
 */
import type { Budget } from '../pickle/budget.js';
import { ByteSlice, MemorySource } from '../pickle/byte-source.js';
import { defineGlobal, isGlobal, type PickleGlobal } from '../pickle/names.js';
import { checkedTensor, elementTypes, StorageRef, TensorRef } from './tensors.js';

/** A module: an official persistent object, or a container class of PyTorch. Its source text is not kept. */
export class ModuleRecord {
  constructor(
    /** `SongUNet`, `ModuleDict`, … */
    readonly className: string,
    /** Its attributes, by name. */
    public state: ReadonlyMap<unknown, unknown> = new Map(),
  ) {}
}

/** A NumPy element type, on its way to a number. */
class NumpyType {
  constructor(readonly code: string) {}
}

/** Reads a stream of PyTorch's older format that is nested in a pickle. */
type NestedReader = (bytes: ByteSlice) => unknown;

type Call = (args: readonly unknown[]) => unknown;

const MODULE_CLASSES = [
  'torch.nn.modules.container.ModuleDict',
  'torch.nn.modules.container.Sequential',
  'torch.nn.modules.container.ModuleList',
  'torch.nn.modules.activation.SiLU',
];

/** NumPy's codes of the numbers that occur. */
const NUMPY_READERS: Readonly<Record<string, (view: DataView) => number | boolean>> = {
  f8: (v) => v.getFloat64(0, true),
  f4: (v) => v.getFloat32(0, true),
  i8: (v) => Number(v.getBigInt64(0, true)),
  i4: (v) => v.getInt32(0, true),
  i2: (v) => v.getInt16(0, true),
  i1: (v) => v.getInt8(0),
  u8: (v) => Number(v.getBigUint64(0, true)),
  u4: (v) => v.getUint32(0, true),
  u2: (v) => v.getUint16(0, true),
  u1: (v) => v.getUint8(0),
  b1: (v) => v.getUint8(0) !== 0,
};

/** Makes the allow-list for one file. */
export function torchGlobals(budget: Budget, nested: NestedReader | null): ReadonlyMap<string, PickleGlobal> {
  const calls: Record<string, Call> = {
    'torch_utils.persistence._reconstruct_persistent_obj': (args) => persistentObject(args, budget),
    'collections.OrderedDict': (args) => dictionary(args, budget),
    'dnnlib.util.EasyDict': (args) => dictionary(args, budget),
    'builtins.set': (args) => setOf(args, budget),
    '__builtin__.set': (args) => setOf(args, budget),
    '_codecs.encode': (args) => encode(args, budget),
    'numpy.dtype': (args) => numpyType(args, budget),
    'numpy.core.multiarray.scalar': (args) => numpyScalar(args, budget),
    'numpy._core.multiarray.scalar': (args) => numpyScalar(args, budget),
    'torch._utils._rebuild_tensor': ([s, offset, size, stride]) =>
      checkedTensor(s, offset, size, stride, budget),
    'torch._utils._rebuild_tensor_v2': ([s, offset, size, stride]) =>
      checkedTensor(s, offset, size, stride, budget),
    'torch._utils._rebuild_parameter': ([tensor]) => parameter(tensor, budget),
    'torch._utils._rebuild_parameter_with_state': ([tensor]) => parameter(tensor, budget),
    'torch.nn.parameter.Parameter': ([tensor]) => parameter(tensor, budget),
  };
  if (nested) {
    calls['torch.storage._load_from_bytes'] = ([bytes]) =>
      bytes instanceof ByteSlice ? nested(bytes) : budget.fail('a nested stream that is no bytes');
  }
  for (const name of MODULE_CLASSES) {
    const className = name.slice(name.lastIndexOf('.') + 1);
    calls[name] = (args) =>
      args.length ? budget.fail(`${className} with arguments`) : new ModuleRecord(className);
  }
  const globals = new Map(Object.entries(calls).map(([name, call]) => [name, defineGlobal(name, call)]));
  for (const storage of elementTypes.keys()) {
    for (const module of ['torch', 'torch.storage', 'torch.cuda']) {
      globals.set(`${module}.${storage}`, defineGlobal(`${module}.${storage}`));
    }
  }
  return globals;
}

/** Python's `__setstate__` for the records above; false where an object has none. */
export function setState(target: unknown, state: unknown): boolean {
  if (target instanceof ModuleRecord && state instanceof Map && target.state.size === 0) {
    target.state = state;
    return true;
  }
  // Byte order and alignment of a NumPy type; attributes of an ordered dictionary (a state dict's `_metadata`).
  if (target instanceof NumpyType) return Array.isArray(state) && state[1] !== '>';
  return target instanceof Map && state instanceof Map;
}

/** `_reconstruct_persistent_obj(meta)`: only the class name and the attributes count. */
function persistentObject([meta]: readonly unknown[], budget: Budget): ModuleRecord {
  if (!(meta instanceof Map) || meta.get('type') !== 'class')
    budget.fail('a persistent object that is no class');
  const [className, state] = [meta.get('class_name'), meta.get('state')];
  if (typeof className !== 'string' || !(state instanceof Map)) {
    budget.fail('a persistent object without class name and state');
  }
  return new ModuleRecord(className, state);
}

/** `OrderedDict()`, with a list of pairs in older files. */
function dictionary([pairs]: readonly unknown[], budget: Budget): Map<unknown, unknown> {
  if (pairs === undefined) return new Map();
  if (pairs instanceof Map) return copied(pairs.size, budget, () => new Map(pairs));
  if (!Array.isArray(pairs) || !pairs.every((pair) => Array.isArray(pair) && pair.length === 2)) {
    budget.fail('a dictionary made of something that is no list of pairs');
  }
  return copied(pairs.length, budget, () => new Map(pairs as [unknown, unknown][]));
}

function setOf([items]: readonly unknown[], budget: Budget): Set<unknown> {
  if (items === undefined) return new Set();
  if (!Array.isArray(items)) budget.fail('a set made of something that is no list');
  return copied(items.length, budget, () => new Set(items));
}

function copied<T>(count: number, budget: Budget, copy: () => T): T {
  budget.memory(40 * count);
  budget.steps(count);
  return copy();
}

/** `_codecs.encode(text, 'latin1')`: how protocol 2 writes bytes. */
function encode([text, encoding]: readonly unknown[], budget: Budget): ByteSlice {
  if (typeof text !== 'string' || (encoding !== undefined && encoding !== 'latin1')) {
    budget.refuse('it encodes text in another way than as Latin-1');
  }
  budget.memory(text.length);
  budget.steps(Math.ceil(text.length / 16));
  return new ByteSlice(new MemorySource(Buffer.from(text, 'latin1')), 0, text.length);
}

function numpyType([code]: readonly unknown[], budget: Budget): NumpyType {
  if (typeof code !== 'string' || !Object.hasOwn(NUMPY_READERS, code)) {
    budget.fail('a NumPy number of an unknown type');
  }
  return new NumpyType(code);
}

/** `scalar(dtype, bytes)` → a number. */
function numpyScalar([type, data]: readonly unknown[], budget: Budget): number | boolean {
  if (
    !(type instanceof NumpyType) ||
    !(data instanceof ByteSlice) ||
    data.size !== Number(type.code.slice(1))
  ) {
    budget.fail('a NumPy number that does not have the bytes of its type');
  }
  const bytes = data.bytes();
  return NUMPY_READERS[type.code](new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
}

function parameter(tensor: unknown, budget: Budget): TensorRef {
  return tensor instanceof TensorRef ? tensor : budget.fail('a parameter that is no tensor');
}

/** Checks the pieces of a storage's persistent id: `('storage', type, key, location, count, …)`. */
export function storageOf(type: unknown, count: unknown, budget: Budget): StorageRef {
  const className = isGlobal(type) ? type.name.slice(type.name.lastIndexOf('.') + 1) : '';
  const element = elementTypes.get(className);
  if (element === undefined) budget.fail('a storage of an unknown element type');
  if (typeof count !== 'number' || !Number.isSafeInteger(count) || count < 0)
    budget.fail('a storage without a length');
  budget.memory(120);
  return new StorageRef(element, count);
}
