/**
 * Arrays of NumPy's `.npz` files (`numpy.savez`, `numpy.savez_compressed`): a zip file with one `.npy` file per array.
 * Read are real floating-point arrays, as in reference statistics for FID; anything else is refused by name.
 * Format: numpy.lib.format, versions 1 to 3.
 */
import { promisify } from 'node:util';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { UserError } from '../common/errors.js';
import { lfsPointerErrorOf } from './lfs-pointer.js';

/** An array in row-major order. */
interface NpyArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Far above the 32 MiB of a covariance of 2048 features. */
const MAX_ARRAY_BYTES = 2 ** 30;

const MAGIC = Buffer.from('\x93NUMPY', 'latin1');

/**
 * Reads all arrays of a file, by name.
 * @throws UserError if the file cannot be read or holds something else
 */
export async function readNpz(path: string): Promise<Map<string, NpyArray>> {
  try {
    const zip = await promisify<string, yauzl.Options, ZipFile>(yauzl.open)(path, {
      lazyEntries: true,
      autoClose: true,
    });
    return await readEntries(zip);
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

function readEntries(zip: ZipFile): Promise<Map<string, NpyArray>> {
  const arrays = new Map<string, NpyArray>();
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      zip.close();
      reject(error);
    };
    zip.on('error', fail);
    zip.on('end', () => resolve(arrays));
    zip.on('entry', (entry: Entry) => {
      readEntry(zip, entry)
        .then((bytes) => {
          const name = entry.fileName.replace(/\.npy$/, '');
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

/** Reads one `.npy` file. @throws Error for other element types than float32 and float64, little-endian */
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
  const itemBytes = { '<f8': 8, '<f4': 4 }[descr];
  if (!itemBytes) throw new Error(`${name} has elements of type ${descr}; float64 and float32 can be read`);
  const shape = dims.split(',').flatMap((n) => (n.trim() ? [Number(n)] : []));
  const count = shape.reduce((product, n) => product * n, 1);
  const body = bytes.subarray(start + headerBytes);
  if (body.length !== count * itemBytes) {
    throw new Error(`${name} should have ${count * itemBytes} bytes of data and has ${body.length}`);
  }
  const aligned = Uint8Array.from(body).buffer;
  const data = itemBytes === 8 ? new Float64Array(aligned) : Float64Array.from(new Float32Array(aligned));
  return { shape, data: fortran === 'True' ? toRowMajor(data, shape, name) : data };
}

/** Column-major to row-major; the header says `fortran_order` for vectors, too. */
function toRowMajor(data: Float64Array, shape: readonly number[], name: string): Float64Array {
  if (shape.length < 2) return data;
  if (shape.length > 2) throw new Error(`${name} is column-major with ${shape.length} dimensions`);
  const [rows, cols] = shape;
  return Float64Array.from(data, (_, k) => data[(k % cols) * rows + Math.floor(k / cols)]);
}
