/** Laying tensors out in a file and writing its header. No Node and no native imports, as in header.ts. */
import { SafetensorsError } from './error.js';
import { ITEM_BYTES, type SafetensorsDType, show } from './header.js';

/** What {@link encodeHeader} lays out. */
export interface TensorLayout {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/**
 * Lays tensors out and encodes the header.
 * The header keeps the given order; the data is ordered by element size, largest first, so that every tensor
 * is aligned for typed-array views (as the reference implementation does).
 *
 * @returns The file's first bytes (length field, JSON, padding to a multiple of 8) and the order of the data.
 * @throws SafetensorsError if a name is used twice, reserved, or not valid Unicode.
 */
export function encodeHeader(
  tensors: readonly TensorLayout[],
  metadata: Readonly<Record<string, string>>,
  file: string,
): { bytes: Uint8Array; order: number[] } {
  const itemBytes = (index: number): number => ITEM_BYTES.get(tensors[index].dtype)!;
  const order = tensors.map((_, index) => index).sort((a, b) => itemBytes(b) - itemBytes(a) || a - b);
  const offsets: [number, number][] = [];
  let at = 0;
  for (const index of order) {
    const bytes = tensors[index].shape.reduce((product, dim) => product * dim, itemBytes(index));
    offsets[index] = [at, at + bytes];
    at += bytes;
  }
  const seen = new Set<string>(['__metadata__']);
  const members: string[] = [];
  const strings = Object.entries(metadata);
  for (const [key, value] of strings) {
    if (typeof value !== 'string') {
      const what = `metadata ${show(key)} is ${typeof value}, not a string; encode it with JSON.stringify`;
      throw new SafetensorsError(file, 'bad-name', what);
    }
  }
  if (strings.length > 0) members.push(`"__metadata__":${JSON.stringify(Object.fromEntries(strings))}`);
  tensors.forEach(({ name, dtype, shape }, index) => {
    if (seen.has(name)) {
      const what = name === '__metadata__' ? 'is reserved' : 'is used twice';
      throw new SafetensorsError(file, 'bad-name', `the tensor name ${show(name)} ${what}`);
    }
    if (/\p{Surrogate}/u.test(name)) {
      throw new SafetensorsError(file, 'bad-name', `the tensor name ${show(name)} is not valid Unicode`);
    }
    seen.add(name);
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets[index] })}`);
  });
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  return { bytes, order };
}
