/** Writes pickles as Python does, for tests of the reader: plain values, calls of named objects, persistent ids. */

/** A call `name(*args)`, written as REDUCE or NEWOBJ, with BUILD when there is a state. */
export class Call {
  constructor(
    readonly name: string,
    readonly args: readonly unknown[],
    readonly state?: unknown,
    readonly opcode: 'REDUCE' | 'NEWOBJ' = 'REDUCE',
  ) {}
}

/** A named object by itself. */
export class Name {
  constructor(readonly name: string) {}
}

export class PersistentId {
  constructor(readonly id: unknown) {}
}

/** Arrays are written as lists; this is a tuple. */
export class Tuple {
  constructor(readonly items: readonly unknown[]) {}
}

export const bytes = (...values: (number | string | Uint8Array)[]): Buffer =>
  Buffer.concat(
    values.map((v) =>
      typeof v === 'number' ? Buffer.of(v) : typeof v === 'string' ? Buffer.from(v, 'latin1') : v,
    ),
  );

const u32 = (n: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};

/** A whole pickle. */
export function pickle(value: unknown, protocol = 4): Buffer {
  return bytes(0x80, protocol, write(value, protocol), '.');
}

function write(value: unknown, protocol: number): Buffer {
  const of = (v: unknown) => write(v, protocol);
  if (value === null) return bytes('N');
  if (value === true) return bytes(0x88);
  if (value === false) return bytes(0x89);
  if (typeof value === 'bigint') {
    const hex = value.toString(16);
    const big = Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex').reverse();
    return bytes(0x8a, big.length, big);
  }
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value < 256) return bytes('K', value);
    if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
      const b = Buffer.alloc(4);
      b.writeInt32LE(value);
      return bytes('J', b);
    }
    const b = Buffer.alloc(8);
    b.writeDoubleBE(value);
    return bytes('G', b);
  }
  if (typeof value === 'string') {
    const text = Buffer.from(value);
    return protocol >= 4 && text.length < 256
      ? bytes(0x8c, text.length, text)
      : bytes('X', u32(text.length), text);
  }
  if (value instanceof Uint8Array) return bytes('B', u32(value.length), value);
  if (Array.isArray(value)) return bytes(']', '(', ...value.map(of), 'e');
  if (value instanceof Tuple) return bytes('(', ...value.items.map(of), 't');
  if (value instanceof Map) return bytes('}', '(', ...[...value].flat(1).map(of), 'u');
  if (value instanceof PersistentId) return bytes(of(value.id), 'Q');
  if (value instanceof Name) {
    const dot = value.name.lastIndexOf('.');
    return bytes('c', value.name.slice(0, dot), '\n', value.name.slice(dot + 1), '\n');
  }
  if (value instanceof Call) {
    const call = bytes(
      of(new Name(value.name)),
      of(new Tuple(value.args)),
      value.opcode === 'REDUCE' ? 'R' : 0x81,
    );
    return value.state === undefined ? call : bytes(call, of(value.state), 'b');
  }
  throw new Error(`cannot pickle ${String(value)}`);
}

/** A bare storage in PyTorch's older format. */
export function legacyStorage(values: Float32Array, location = 'cuda:0'): Buffer {
  const id = new Tuple(['storage', new Name('torch.FloatStorage'), '0', location, values.length, null]);
  return legacyStream(new PersistentId(id), [['0', values]]);
}

/** The older format around any object. */
export function legacyStream(
  object: unknown,
  storages: readonly (readonly [string, Float32Array])[],
): Buffer {
  const system = new Map<string, unknown>([
    ['protocol_version', 1001],
    ['little_endian', true],
    [
      'type_sizes',
      new Map([
        ['short', 2],
        ['int', 4],
        ['long', 4],
      ]),
    ],
  ]);
  const data = storages.map(([, values]) => {
    const count = Buffer.alloc(8);
    count.writeBigInt64LE(BigInt(values.length));
    return bytes(count, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
  });
  return bytes(
    pickle(0x1950a86a20f9469cfc6cn, 2),
    pickle(1001, 2),
    pickle(system, 2),
    pickle(object, 2),
    pickle(
      storages.map(([key]) => key),
      2,
    ),
    ...data,
  );
}

/** A tensor with its storage as a nested stream, as in snapshots. */
export function nestedTensor(values: Float32Array, shape: readonly number[]): Call {
  const storage = new Call('torch.storage._load_from_bytes', [legacyStorage(values)]);
  return tensorOf(storage, shape);
}

export function tensorOf(
  storage: unknown,
  shape: readonly number[],
  strides?: readonly number[],
  offset = 0,
): Call {
  const contiguous = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
  const hooks = new Call('collections.OrderedDict', []);
  const args = [storage, offset, new Tuple(shape), new Tuple(strides ?? contiguous), false, hooks];
  return new Call('torch._utils._rebuild_parameter', [
    new Call('torch._utils._rebuild_tensor_v2', args),
    true,
    hooks,
  ]);
}

/** A persistent object of the official programs. */
export function persistent(className: string, state: Map<unknown, unknown>): Call {
  const meta = new Map<unknown, unknown>([
    ['type', 'class'],
    ['version', 6],
    ['module_src', 'raise SystemExit("this text must never run")'],
    ['class_name', className],
    ['state', state],
  ]);
  return new Call('torch_utils.persistence._reconstruct_persistent_obj', [meta]);
}

/** The state of a module. */
export function moduleState(
  parameters: Iterable<readonly [string, unknown]>,
  modules: Iterable<readonly [string, unknown]>,
  rest: Record<string, unknown> = {},
): Map<unknown, unknown> {
  return new Map<unknown, unknown>([
    ['training', false],
    ['_parameters', new Map(parameters)],
    ['_buffers', new Map()],
    ['_modules', new Map(modules)],
    ...Object.entries(rest),
  ]);
}
