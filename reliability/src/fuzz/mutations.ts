/** Damages files and values: blindly, and with regard to their structure. */

/** A random integer below a bound. */
export type Below = (bound: number) => number;

/** Lengths, counts and sizes at which readers go wrong. */
const LENGTHS = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff];

export const pick = <T>(items: readonly T[], below: Below): T => items[below(items.length)];

/** None (rarely) to four changes: cut off, a bit, a byte, repeated bytes, a length, a part of another file, a part left out. */
export function mutateBytes(bytes: Uint8Array, others: readonly Uint8Array[], below: Below): Buffer {
  let data = Buffer.from(bytes);
  for (let rounds = below(20) && 1 + below(4); rounds > 0 && data.length > 0; rounds--) {
    // Headers are where the decisions are.
    const at = below(3) === 0 ? below(Math.min(data.length, 64)) : below(data.length);
    const [before, after] = [data.subarray(0, at), data.subarray(at)];
    switch (below(8)) {
      case 0:
        data = Buffer.from(before);
        break;
      case 1:
      case 2:
        data[at] ^= 1 << below(8);
        break;
      case 3:
        data[at] = below(256);
        break;
      case 4:
        data = Buffer.concat([before, Buffer.alloc(1 + below(3), data[at]), after]);
        break;
      case 5:
        writeLength(data, at, pick(LENGTHS, below), below);
        break;
      case 6: {
        const other = pick(others, below);
        const from = below(other.length);
        data = Buffer.concat([before, other.subarray(from, from + below(200)), after]);
        break;
      }
      default:
        data = Buffer.concat([before, after.subarray(below(64))]);
    }
  }
  return data;
}

/** A length of 2, 4 or 8 bytes, in either order. */
function writeLength(data: Buffer, at: number, value: number, below: Below): void {
  const size = pick([2, 4, 8], below);
  if (at + size > data.length) return;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  const field = bytes.subarray(0, size);
  if (below(2)) field.reverse();
  field.copy(data, at);
}

const VALUES: readonly unknown[] = [
  ...[null, true, false, 0, -1, 0.5, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 64, '', '0', 'a'.repeat(5000)],
  ...['\u0000\u001b[2J', '\ud800', '__proto__', '../../etc/passwd', 'NaN', [], {}, [[]], [1, 2, 3]],
  ...[{ __proto__: null, length: -1 }, Array.from({ length: 2000 }, () => 0)],
];

/** A copy of a JSON value with one to three of its parts replaced, left out, repeated or nested. */
export function mutateJson(value: unknown, below: Below): unknown {
  const root = { root: structuredClone(value) };
  for (let rounds = 1 + below(3); rounds > 0; rounds--) {
    const places = placesIn(root);
    const [holder, key] = pick(places, below);
    const child = holder[key];
    const change = below(6);
    if (change === 0 && holder !== root) delete holder[key];
    else if (change === 1) holder[key] = [child, child];
    else if (change === 2) holder[key] = nested(child, 1 + below(60), below);
    else if (change === 3 && typeof child === 'number')
      holder[key] = child * pick([-1, 2, 1000, 1e-9], below);
    else if (change === 4) addKey(holder, pick(['extra', '__proto__', 'constructor', '0'], below), child);
    else holder[key] = structuredClone(pick(VALUES, below));
  }
  return root.root;
}

type Holder = Record<string, unknown>;

/** All places of a value below an object: who holds it, under which key. */
function placesIn(root: object): [Holder, string][] {
  const places: [Holder, string][] = [];
  const visit = (holder: Holder) => {
    for (const key of Object.keys(holder)) {
      places.push([holder, key]);
      const child = holder[key];
      if (typeof child === 'object' && child !== null && places.length < 500) visit(child as Holder);
    }
  };
  visit(root as Holder);
  return places;
}

/** As an own property, whatever its name. */
function addKey(holder: Holder, name: string, value: unknown): void {
  const copy = structuredClone(value);
  Object.defineProperty(holder, name, { value: copy, enumerable: true, configurable: true, writable: true });
}

function nested(value: unknown, depth: number, below: Below): unknown {
  return depth === 0
    ? value
    : below(2)
      ? [nested(value, depth - 1, below)]
      : { a: nested(value, depth - 1, below) };
}
