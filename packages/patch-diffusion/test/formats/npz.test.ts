/** NumPy's files, written by hand: what is read, and what is refused by name. */
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readReferenceStatistics } from '../../src/evaluation/reference.js';
import { parseNpy, readNpz, writeNpz } from '../../src/formats/npz.js';
import { temporaryFolder } from '../helpers/tiny-run.js';
import { zipBytes } from '../helpers/zip.js';

function npy(descr: string, fortran: boolean, shape: string, data: ArrayBufferView): Buffer {
  const header = `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': ${shape}, }\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  const start = Buffer.from('\x93NUMPY\x01\x00', 'latin1');
  const body = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([start, length, Buffer.from(header), body]);
}

/** Prints shapes and last values; exit code 9 without NumPy. */
const NUMPY = `
import sys
try:
    import numpy
except ImportError:
    sys.exit(9)
f = numpy.load(sys.argv[1])
print(*[f[k].shape for k in ("mu", "sigma", "n", "bytes")], f["mu"].dtype, f["mu"][5], f["sigma"][1, 0], float(f["n"]), f["bytes"][1])
`;

describe('npz', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await temporaryFolder();
  });

  async function npz(name: string, arrays: Record<string, Buffer>): Promise<string> {
    const path = join(dir, name);
    const members = Object.entries(arrays).map(([array, bytes]) => [`${array}.npy`, bytes] as const);
    await writeFile(path, zipBytes(Object.fromEntries(members)));
    return path;
  }

  it('reads row-major and column-major arrays of both precisions', async () => {
    const values = Float64Array.of(1, 2, 3, 4, 5, 6);
    const path = await npz('orders.npz', {
      rows: npy('<f8', false, '(2, 3)', values),
      columns: npy('<f8', true, '(3, 2)', values),
      single: npy('<f4', false, '(2,)', Float32Array.of(0.5, -1)),
    });
    const arrays = await readNpz(path);
    expect(arrays.get('rows')).toEqual({ shape: [2, 3], data: values });
    expect(arrays.get('columns')).toEqual({ shape: [3, 2], data: Float64Array.of(1, 4, 2, 5, 3, 6) });
    expect(arrays.get('single')).toEqual({ shape: [2], data: Float64Array.of(0.5, -1) });
  });

  it('refuses other types, and data that do not fit the shape', () => {
    const values = Float64Array.of(1, 2);
    expect(() => parseNpy(npy('>f8', false, '(2,)', values), 'mu')).toThrow(/mu has elements of type >f8/);
    expect(() => parseNpy(npy('|O', false, '(2,)', values), 'mu')).toThrow(/type \|O/);
    expect(() => parseNpy(npy('<f8', false, '(3,)', values), 'mu')).toThrow(/24 bytes of data and has 16/);
    expect(() => parseNpy(Buffer.from('PK'), 'mu')).toThrow(/no \.npy array/);
  });

  it('writes what it reads, as NumPy does', async () => {
    const path = join(dir, 'written.npz');
    const values = Float64Array.of(1, 2.5, -3, 4, 5, 6e300);
    const arrays = {
      ...{ mu: { shape: [6], data: values }, sigma: { shape: [2, 3], data: values } },
      ...{ n: { shape: [], data: Float64Array.of(7) }, bytes: { shape: [2], data: Uint8Array.of(0, 255) } },
    };
    await writeNpz(path, arrays);
    const read = await readNpz(path);
    for (const [name, { shape, data }] of Object.entries(arrays))
      expect(read.get(name)).toEqual({ shape, data: Float64Array.from(data) });
    expect([...(await readNpz(path, ['n'])).keys()]).toEqual(['n']);
    const python = spawnSync('python3', ['-c', NUMPY, path], { encoding: 'utf8' });
    if (python.status === 9) console.warn('skipped: python3 has no NumPy to read the file with');
    else expect(python.stdout.trim()).toBe('(6,) (2, 3) () (2,) float64 6e+300 4.0 7.0 255');
  });

  it('says what a file holds when it holds no statistics', async () => {
    const path = await npz('other.npz', { images: npy('<f8', false, '(1, 2)', Float64Array.of(1, 2)) });
    await expect(readReferenceStatistics(path)).rejects.toThrow(/holds images \[1, 2\], not the statistics/);
    const text = join(dir, 'text.npz');
    await writeFile(text, 'no zip');
    await expect(readReferenceStatistics(text)).rejects.toMatchObject({ code: 'NPZ_UNREADABLE' });
    await expect(readReferenceStatistics(join(dir, 'none.npz'))).rejects.toThrow(/ENOENT/);
  });
});
