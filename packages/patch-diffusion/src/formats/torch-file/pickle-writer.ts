/** The one pickle that we write: a state dict in PyTorch's zip format, protocol 2, as `torch.save` writes it. */
import { Buffer } from 'node:buffer';

/** A contiguous tensor and the member of the archive that holds its data. */
export interface StateDictEntry {
  readonly name: string;
  /** Number of the storage: the data is in `data/<key>`. */
  readonly key: number;
  /** `FloatStorage` */
  readonly storage: string;
  readonly shape: readonly number[];
}

const op = (code: number) => Uint8Array.of(code);
const PROTO_2 = Uint8Array.of(0x80, 2);
const [EMPTY_TUPLE, MARK, TUPLE, REDUCE, SETITEMS, BINPERSID, NEWFALSE, STOP] = [
  ...[0x29, 0x28, 0x74, 0x52, 0x75, 0x51, 0x89, 0x2e].map(op),
] as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];

/** `OrderedDict` of names and `_rebuild_tensor_v2` calls: what `torch.load(weights_only=True)` accepts. */
export function pickleStateDict(entries: readonly StateDictEntry[]): Uint8Array {
  const parts: Uint8Array[] = [PROTO_2, ...emptyOrderedDict(), MARK];
  for (const entry of entries) parts.push(text(entry.name), ...tensor(entry));
  parts.push(SETITEMS, STOP);
  return Buffer.concat(parts);
}

function tensor({ key, storage, shape }: StateDictEntry): Uint8Array[] {
  const numel = shape.reduce((product, dim) => product * dim, 1);
  const strides = shape.map((_, d) =>
    shape.slice(d + 1).reduce((product, dim) => product * Math.max(dim, 1), 1),
  );
  return [
    global('torch._utils', '_rebuild_tensor_v2'),
    MARK,
    ...[
      MARK,
      text('storage'),
      global('torch', storage),
      text(String(key)),
      text('cpu'),
      integer(numel),
      TUPLE,
      BINPERSID,
    ],
    integer(0),
    ...tuple(shape),
    ...tuple(strides),
    NEWFALSE,
    ...emptyOrderedDict(),
    TUPLE,
    REDUCE,
  ];
}

function emptyOrderedDict(): Uint8Array[] {
  return [global('collections', 'OrderedDict'), EMPTY_TUPLE, REDUCE];
}

function tuple(values: readonly number[]): Uint8Array[] {
  return [MARK, ...values.map(integer), TUPLE];
}

function global(module: string, name: string): Uint8Array {
  return Buffer.from(`c${module}\n${name}\n`, 'latin1');
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  const head = Buffer.alloc(5);
  head.writeUInt8(0x58);
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** BININT, or LONG1 with eight bytes beyond 31 bits. */
function integer(value: number): Uint8Array {
  if (value < 2 ** 31) {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt8(0x4a);
    bytes.writeInt32LE(value, 1);
    return bytes;
  }
  const bytes = Buffer.alloc(10);
  bytes.writeUInt8(0x8a);
  bytes.writeUInt8(8, 1);
  bytes.writeBigInt64LE(BigInt(value), 2);
  return bytes;
}
