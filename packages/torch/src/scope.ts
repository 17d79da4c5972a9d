/**
 * When native memory is freed.
 *
 * The garbage collector does not see how large native tensors are, so tensors live in scopes: `scope(fn)` frees
 * every tensor made inside, except those that `fn` returns or keeps. A tensor made outside of any scope, or kept,
 * is freed by the collector once nothing refers to it (a long synchronous loop never lets the collector's
 * callbacks run, so use a scope there).
 */
import { synchronous } from './autograd.js';
import { native } from './native.js';

const DISPOSED = -1;

/** The open scope's handles; null outside. */
let open: Handle[] | null = null;

const registry = new FinalizationRegistry<number>((handle) => {
  native().release(handle);
});

/** A native tensor's owner. The base of `Tensor`; nothing else extends it. */
export abstract class Handle {
  /** @internal The number by which the addon knows the tensor; negative once disposed. */
  _h: number;
  /** @internal True when the collector frees it, not a scope. */
  _collected = false;

  constructor(handle: number) {
    this._h = handle;
    if (open !== null) open.push(this);
    else giveToCollector(this);
  }

  /** Whether the native tensor was freed. */
  get isDisposed(): boolean {
    return this._h === DISPOSED;
  }

  /** Frees the native tensor now. Harmless when repeated. */
  dispose(): void {
    if (this._h === DISPOSED) return;
    native().release(this._h);
    this._h = DISPOSED;
  }

  /** `using x = …` frees `x` at the end of the block. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

function giveToCollector(handle: Handle): void {
  handle._collected = true;
  native().collectable(handle._h);
  registry.register(handle, handle._h);
}

/**
 * Runs `fn` and frees every tensor made inside, except those that it returns (also deep inside arrays, objects,
 * Maps and Sets) and those passed to {@link keep}. Returned tensors pass to the enclosing scope.
 *
 * @throws TorchError `ERR_TORCH_SCOPE` when `fn` returns a promise.
 * @throws Whatever `fn` throws; its tensors are freed then, too.
 */
export function scope<T>(fn: () => T): T {
  const outer = open;
  const mine: Handle[] = [];
  open = mine;
  let result: T;
  try {
    result = synchronous('scope', fn());
  } catch (error) {
    open = outer;
    release(mine, null);
    throw error;
  }
  open = outer;
  release(mine, survivors(result));
  return result;
}

/** Runs `fn` outside of any scope: its tensors belong to the collector, not to the scopes around. */
export function unscoped<T>(fn: () => T): T {
  const outer = open;
  open = null;
  try {
    return synchronous('unscoped', fn());
  } finally {
    open = outer;
  }
}

/** Lets a tensor survive the enclosing scopes. The caller disposes it. */
export function keep<T extends Handle>(tensor: T): T {
  if (!tensor._collected && tensor._h !== DISPOSED) giveToCollector(tensor);
  return tensor;
}

/** Number of native tensors that this thread's JavaScript holds (handles; two may share one storage). */
export function liveTensors(): number {
  return native().liveTensors();
}

/**
 * Bytes of the distinct storages behind this thread's live tensors, on all devices. What autograd holds for
 * `backward` and what the allocator caches is not counted.
 */
export function nativeBytes(): number {
  return native().nativeBytes();
}

let batch = new Float64Array(256);

function release(handles: Handle[], survivors: Handle | Set<Handle> | null): void {
  if (batch.length < handles.length) batch = new Float64Array(handles.length * 2);
  let count = 0;
  for (const handle of handles) {
    if (handle._collected || handle._h === DISPOSED) continue;
    if (survivors !== null && (survivors instanceof Handle ? survivors === handle : survivors.has(handle))) {
      if (open !== null) open.push(handle);
      else giveToCollector(handle);
      continue;
    }
    batch[count++] = handle._h;
    handle._h = DISPOSED;
  }
  if (count > 0) native().releaseMany(batch, count);
}

function survivors(result: unknown): Handle | Set<Handle> | null {
  if (result === null || typeof result !== 'object') return null;
  if (result instanceof Handle) return result;
  const found = new Set<Handle>();
  collect(result, found, new Set());
  return found;
}

function collect(value: unknown, found: Set<Handle>, seen: Set<object>): void {
  if (value === null || typeof value !== 'object') return;
  if (value instanceof Handle) {
    found.add(value);
    return;
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || seen.has(value)) return;
  seen.add(value);
  if (value instanceof Map) {
    for (const [key, entry] of value) {
      collect(key, found, seen);
      collect(entry, found, seen);
    }
  } else if (value instanceof Set || Array.isArray(value)) {
    for (const entry of value) collect(entry, found, seen);
  } else {
    for (const entry of Object.values(value)) collect(entry, found, seen);
  }
}
