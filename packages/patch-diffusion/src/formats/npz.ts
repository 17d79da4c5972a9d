/**
 * Arrays of NumPy's `.npz` files (`numpy.savez`, `numpy.savez_compressed`): a zip file with one `.npy` file per array.
 * Read are floating-point arrays and bytes, as in reference statistics for FID; anything else is refused by name.
 * Written are float64 arrays and bytes.
 * Format: numpy.lib.format, versions 1 to 3.
 */
import { promisify } from 'node:util';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { UserError } from '../common/errors.js';
import { lfsPointerErrorOf } from './lfs-pointer.js';
import { zipArchive } from './zip-writer.js';

/** An array in row-major order. */
export interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Far above the 32 MiB of a covariance of 2048 features. */
const MAX_ARRAY_BYTES = 2 ** 30;

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');

/**
 * Reads arrays of a file, by name.
 * @param wanted names; the others are left out unread. Default: all
 * @throws UserError if the file cannot be read or holds something else
 */
export async function readNpz(
  path: string,
  wanted: readonly string[] | null = null,
): Promise<Map<string, NpyArray>> {
  try {
    const zip = await promisify<string, yauzl.Options, ZipFile>(yauzl.open)(path, {
      lazyEntries: true,
      autoClose: true,
    });
    return await readEntries(zip, wanted);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const pointer = lfsPointerErrorOf(path);
    if (pointer) throw pointer;
    throw new UserError(
      'NPZ_UNREADABLE',
      `${path} is not a usable .npz file (${reason}); make or download it again`,
      { cause: error },
    );
  }
}

function readEntries(zip: ZipFile, wanted: readonly string[] | null): Promise<Map<string, NpyArray>> {
  const arrays = new Map<string, NpyArray>();
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      zip.close();
      reject(error);
    };
    zip.on('error', fail);
    zip.on('end', () => resolve(arrays));
    zip.on('entry', (entry: Entry) => {
      const name = entry.fileName.replace(/\.npy$/, '');
      if (wanted && !wanted.includes(name)) {
        zip.readEntry();
        return;
      }
      readEntry(zip, entry)
        .then((bytes) => {
          arrays.set(name, parseNpy(bytes, name));
          zip.readEntry();
        }, fail)
        .catch(fail);
    });
    zip.readEntry();
  });
}

async function readEntry(zip: ZipFile, entry: Entry): Promise<Buffer> {
  if (entry.uncompressedSize > MAX_ARRAY_BYTES) {
    throw new Error(`${entry.fileName} is larger than ${MAX_ARRAY_BYTES / 2 ** 20} MiB`);
  }
  const stream = await promisify(zip.openReadStream.bind(zip) as OpenStream)(entry);
  const chunks: Buffer[] = [];
  // yauzl checks the size while it reads.
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

type OpenStream = (
  entry: Entry,
  callback: (error: Error | null, stream: NodeJS.ReadableStream) => void,
) => void;

/** Bytes of an element, and what views an array of them. */
const TYPES: Readonly<Record<string, { bytes: number; view: (data: ArrayBuffer) => ArrayLike<number> }>> = {
  '<f8': { bytes: 8, view: (data) => new Float64Array(data) },
  '<f4': { bytes: 4, view: (data) => new Float32Array(data) },
  '|u1': { bytes: 1, view: (data) => new Uint8Array(data) },
};

/** Reads one `.npy` file. @throws Error for other element types than bytes, float32 and float64, little-endian */
export function parseNpy(bytes: Buffer, name: string): NpyArray {
  if (bytes.length < 12 || !bytes.subarray(0, 6).equals(MAGIC)) throw new Error(`${name} is no .npy array`);
  const long = bytes[6] >= 2;
  const start = long ? 12 : 10;
  const headerBytes = long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  const header = bytes.toString('latin1', start, start + headerBytes);
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const fortran = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const dims = /'shape':\s*\(([\d,\s]*)\)/.exec(header)?.[1];
  if (descr === undefined || fortran === undefined || dims === undefined) {
    throw new Error(`${name} has an unreadable header`);
  }
  const type = TYPES[descr];
  if (!type) throw new Error(`${name} has elements of type ${descr}; float64, float32 and bytes can be read`);
  const shape = dims.split(',').flatMap((n) => (n.trim() ? [Number(n)] : []));
  const count = shape.reduce((product, n) => product * n, 1);
  const body = bytes.subarray(start + headerBytes);
  if (body.length !== count * type.bytes) {
    throw new Error(`${name} should have ${count * type.bytes} bytes of data and has ${body.length}`);
  }
  const aligned = Uint8Array.from(body).buffer;
  const data = Float64Array.from(type.view(aligned));
  return { shape, data: fortran === 'True' ? toRowMajor(data, shape, name) : data };
}

/** Column-major to row-major; the header says `fortran_order` for vectors, too. */
function toRowMajor(data: Float64Array, shape: readonly number[], name: string): Float64Array {
  if (shape.length < 2) return data;
  if (shape.length > 2) throw new Error(`${name} is column-major with ${shape.length} dimensions`);
  const [rows, cols] = shape;
  return Float64Array.from(data, (_, k) => data[(k % cols) * rows + Math.floor(k / cols)]);
}

/** Writes arrays as `numpy.savez` does; the file appears whole or not at all. */
export async function writeNpz(
  path: string,
  arrays: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly data: Float64Array | Uint8Array }>
  >,
): Promise<void> {
  const members = Object.entries(arrays).map(([name, array]) => ({
    name: `${name}.npy`,
    data: npyBytes(array),
  }));
  await writeFileAtomic(path, zipArchive(members));
}

/** One `.npy` file, version 1. */
function npyBytes({
  shape,
  data,
}: {
  readonly shape: readonly number[];
  readonly data: Float64Array | Uint8Array;
}): Uint8Array {
  const descr = data instanceof Float64Array ? '<f8' : '|u1';
  // A tuple of one number has a comma behind it.
  const dims = `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${dims}, }`;
  // The data begins at a multiple of 64 bytes; the header ends with a line feed.
  const padded = text.padEnd(64 * Math.ceil((text.length + 11) / 64) - 11);
  const start = Buffer.alloc(10);
  MAGIC.copy(start);
  start.set([1, 0], 6);
  start.writeUInt16LE(padded.length + 1, 8);
  const body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([start, Buffer.from(`${padded}\n`, 'latin1'), body]);
}
