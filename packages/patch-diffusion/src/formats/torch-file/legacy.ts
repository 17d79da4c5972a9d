/**
 * PyTorch's format before 1.6: five pickles (magic number, version, system, object, storage keys), then the raw
 * storages, each with its length in front. Official snapshots carry one such stream per tensor.
 */
import type { Budget } from '../pickle/budget.js';
import { show } from '../pickle/budget.js';
import { ByteSlice, type ByteSource } from '../pickle/byte-source.js';
import { isGlobal, type PickleGlobal } from '../pickle/names.js';
import { readPickle } from '../pickle/pickle.js';
import { setState, storageOf, torchGlobals } from './globals.js';
import { StorageRef } from './tensors.js';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;

/**
 * Reads a whole stream; the data of its tensors stays where it is.
 * @param globals names that the object may use
 */
export function readLegacy(
  source: ByteSource,
  budget: Budget,
  globals: ReadonlyMap<string, PickleGlobal> = torchGlobals(budget, null),
): unknown {
  const storages = new Map<string, StorageRef>();
  const views: (() => void)[] = [];
  const host = {
    find: (name: string) => globals.get(name),
    persistent: (id: unknown) => persistent(id, globals, storages, views, budget),
    build: setState,
  };
  let at = 0;
  const next = (): unknown => {
    const { value, end } = readPickle(source, at, host, budget);
    at = end;
    return value;
  };
  if (next() !== MAGIC) budget.fail('it does not begin as a PyTorch file does');
  if (next() !== VERSION) budget.fail('it is of an unknown version of the PyTorch format');
  const system = next();
  if (!(system instanceof Map) || system.get('little_endian') !== true) {
    budget.fail('it was written on a big-endian machine, or is damaged');
  }
  const value = next();
  const keys = next();
  if (!Array.isArray(keys)) budget.fail('its list of storages is damaged');
  for (const key of keys) at = attach(source, at, storages, key, budget);
  for (const view of views) view();
  for (const [key, { data }] of storages) {
    if (data === null) budget.fail(`the data of storage ${show(key)} is missing`);
  }
  return value;
}

/** Gives a storage its bytes; returns the position behind them. */
function attach(
  source: ByteSource,
  at: number,
  storages: Map<string, StorageRef>,
  key: unknown,
  budget: Budget,
): number {
  const storage = typeof key === 'string' ? storages.get(key) : undefined;
  if (storage === undefined || storage.data !== null)
    budget.fail('its list of storages does not fit its tensors');
  budget.steps(16);
  const bytes = storage.count * storage.type.bytes;
  const begin = at + 8;
  if (begin + bytes > source.size) {
    budget.fail(`it ends at byte ${source.size}, but a tensor's data goes to byte ${begin + bytes}`);
  }
  const head = source.read(at, begin);
  const count = new DataView(head.buffer, head.byteOffset, 8).getBigInt64(0, true);
  // Untyped storages count bytes.
  if (count !== BigInt(storage.count) && count !== BigInt(bytes)) {
    budget.fail(`a storage has ${count} elements where ${storage.count} are expected`);
  }
  storage.data = new ByteSlice(source, begin, bytes);
  return begin + bytes;
}

/** `('storage', type, key, location, count, view)`, or a class with its source text: `('module', class, file, text)`. */
function persistent(
  id: unknown,
  globals: ReadonlyMap<string, PickleGlobal>,
  storages: Map<string, StorageRef>,
  views: (() => void)[],
  budget: Budget,
): unknown {
  if (!Array.isArray(id)) budget.fail('a reference of unknown form');
  if (id[0] === 'module' && isGlobal(id[1]) && globals.has(id[1].name)) return id[1];
  const [kind, type, key, , count, view] = id as unknown[];
  if (kind !== 'storage' || typeof key !== 'string') budget.fail('a reference of unknown form');
  let storage = storages.get(key);
  if (storage === undefined) {
    storage = storageOf(type, count, budget);
    storages.set(key, storage);
  } else if (storage.count !== count) budget.fail(`storage ${show(key)} has two lengths`);
  return view === null || view === undefined ? storage : subStorage(storage, view, views, budget);
}

/** `(key, offset, size)`: a part of a storage; its bytes come when those of the whole are known. */
function subStorage(whole: StorageRef, view: unknown, views: (() => void)[], budget: Budget): StorageRef {
  const [, offset, size] = (Array.isArray(view) ? view : []) as unknown[];
  const isCount = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;
  if (!isCount(offset) || !isCount(size) || offset + size > whole.count)
    budget.fail('a storage view out of range');
  const part = new StorageRef(whole.type, size);
  budget.memory(300);
  const width = whole.type.bytes;
  views.push(() => {
    part.data = whole.data?.slice(offset * width, size * width) ?? null;
  });
  return part;
}
