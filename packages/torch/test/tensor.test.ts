import { existsSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import './close.js';

describe('tensor()', () => {
  it('takes numbers, nested arrays and typed arrays', () => {
    torch.scope(() => {
      expect(torch.tensor(3).shape).toEqual([]);
      expect(torch.tensor(3).item()).toBe(3);
      const matrix = torch.tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      expect(matrix.shape).toEqual([2, 3]);
      expect(matrix.dtype).toBe('float32');
      expect([...matrix.toFloat32Array()]).toEqual([1, 2, 3, 4, 5, 6]);
      expect(torch.tensor([]).shape).toEqual([0]);
      expect(torch.tensor([[], []]).shape).toEqual([2, 0]);
      expect(torch.tensor(new Float64Array([1, 2]), { shape: [2, 1] }).shape).toEqual([2, 1]);
      expect(torch.tensor(new Int8Array([-1, 2])).dtype).toBe('int32');
      expect(torch.tensor(new Uint32Array([0xffffffff])).item()).toBe(0xffffffff);
      expect(torch.tensor([1, 0, 2], { dtype: 'bool' }).toTypedArray()).toEqual(new Uint8Array([1, 0, 1]));
    });
  });

  it('says what is wrong with the data', () => {
    expect(() => torch.tensor([[1, 2], [3]])).toThrow(
      /depth 1 must have the length of the first, 2; got one of length 1/,
    );
    expect(() => torch.tensor([1, [2]] as never)).toThrow(/expected a number at depth 1|expected a number/);
    expect(() => torch.tensor(new Float32Array(5), { shape: [2, 3] })).toThrow(
      'tensor: shape [2, 3] holds 6 elements, the data has 5',
    );
    expect(() => torch.tensor(new Uint16Array(2))).toThrow(/say which/);
    expect(() => torch.tensor(1, { dtype: 'float8' as never })).toThrow(/unknown dtype 'float8'/);
  });

  it('brings back every element type bit by bit', () => {
    const arrays: [torch.DType, torch.TypedArray][] = [
      ['float64', new Float64Array([Math.PI, -0, Number.NaN, Number.POSITIVE_INFINITY, 5e-324])],
      ['float32', new Float32Array([Math.PI, -0, Number.NaN, Number.NEGATIVE_INFINITY, 1e-45])],
      ['float16', new Uint16Array([0, 0x3c00, 0x7bff, 0x8000, 0x0001])],
      ['bfloat16', new Uint16Array([0, 0x3f80, 0x7f7f, 0x8000, 0x0001])],
      ['int64', new BigInt64Array([0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)])],
      ['int32', new Int32Array([0, -1, 2 ** 31 - 1, -(2 ** 31)])],
      ['uint8', new Uint8Array([0, 1, 255])],
      ['bool', new Uint8Array([0, 1, 1])],
    ];
    torch.scope(() => {
      for (const [dtype, array] of arrays) {
        const x = torch.tensor(array, { dtype });
        expect(x.dtype).toBe(dtype);
        expect(x.toTypedArray()).toEqual(array);
      }
    });
  });

  it('keeps float32 and uint8 data of any shape (property)', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
        fc.boolean(),
        (shape, bytes) => {
          const numel = shape.reduce((a, b) => a * b, 1);
          const data = bytes
            ? Uint8Array.from({ length: numel }, (_, i) => (i * 37) % 256)
            : Float32Array.from({ length: numel }, (_, i) => Math.sin(i));
          torch.scope(() => {
            const x = torch.tensor(data, { shape });
            expect(x.shape).toEqual(shape);
            expect(x.numel).toBe(numel);
            expect(x.ndim).toBe(shape.length);
            expect(x.toTypedArray()).toEqual(data);
          });
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('Tensor', () => {
  it('reads row by row whatever the layout in memory', () => {
    torch.scope(() => {
      const x = torch.arange(24, { dtype: 'float32' }).reshape([1, 2, 3, 4]);
      const last = x.to({ memoryFormat: 'channelsLast' });
      expect(last.isContiguous('channelsLast')).toBe(true);
      expect(last.isContiguous()).toBe(false);
      expect(last.strides).toEqual([24, 1, 8, 2]);
      expect(last.toFloat32Array()).toEqual(x.toFloat32Array());
      expect([...x.flatten().slice(0, 0, 6, 2).toFloat32Array()]).toEqual([0, 2, 4]);
    });
  });

  it('converts with to() and returns itself when nothing changes', () => {
    torch.scope(() => {
      const x = torch.tensor([1.5, -2.5]);
      expect(x.to({ dtype: 'float64' }).dtype).toBe('float64');
      expect([...x.to({ dtype: 'int64' }).toTypedArray()]).toEqual([1n, -2n]);
      expect(x.to({ dtype: 'float32' }).sharesStorage(x)).toBe(true);
      expect(x.to({ dtype: 'float32', copy: true }).sharesStorage(x)).toBe(false);
      expect([...x.to({ dtype: 'bfloat16' }).toFloat32Array()]).toEqual([1.5, -2.5]);
    });
  });

  it('writes and reads caller-owned arrays', () => {
    torch.scope(() => {
      const x = torch.zeros([2, 2], { dtype: 'uint8' });
      x.copyFromArray(new Uint8Array([1, 2, 3, 4]));
      expect(x.copyToArray(new Uint8Array(4))).toEqual(new Uint8Array([1, 2, 3, 4]));
      const view = torch.zeros([2, 4]).slice(1, 0, 4, 2);
      view.copyFromArray(new Float32Array([1, 2, 3, 4]));
      expect([...view.toFloat32Array()]).toEqual([1, 2, 3, 4]);
      expect(() => x.copyFromArray(new Uint8Array(3))).toThrow(
        /uint8\[2, 2\] holds 4 bytes, the array has 3/,
      );
    });
  });

  it('copies without blocking', async () => {
    const x = torch.tensor([1, 2, 3]);
    const promise = x.readback();
    x.zero_();
    expect(await promise).toEqual(new Float32Array([1, 2, 3]));
    x.dispose();
  });

  it('has item() for single elements only', () => {
    torch.scope(() => {
      expect(torch.tensor([[2.5]]).item()).toBe(2.5);
      expect(torch.tensor(1, { dtype: 'bool' }).item()).toBe(1);
      expect(() => torch.zeros([2]).item()).toThrow(/float32\[2\] does not have exactly one element/);
    });
  });

  it('prints its type and shape', () => {
    const x = torch.zeros([2, 3]);
    expect(`${x}`).toBe('Tensor float32[2, 3]');
    x.dispose();
    expect(`${x}`).toBe('Tensor (disposed)');
  });

  it('takes other data and stays the same parameter', () => {
    torch.scope(() => {
      const x = torch.ones([2]).setRequiresGrad();
      x.setData(torch.tensor([3, 4], { dtype: 'float64' }));
      expect(x.dtype).toBe('float64');
      expect(x.requiresGrad && x.isLeaf).toBe(true);
      expect(x).toBeCloseToTensor([3, 4]);
    });
  });
});

describe('runtime', () => {
  it('tells what is loaded', () => {
    const version = torch.version();
    expect(version.torch).toMatch(/^\d+\.\d+/);
    expect(version.config).toContain('C++');
    expect(existsSync(join(version.libraryFolder, 'libtorch_cpu.so'))).toBe(process.platform === 'linux');
    torch.synchronize();
  });

  it('tells of the GPUs, or why there are none', () => {
    const { libraryFolder, noCudaReason } = torch.version();
    const count = torch.cudaDeviceCount();
    expect(torch.cudaIsAvailable()).toBe(count > 0);
    if (count > 0) expect(noCudaReason).toBeNull();
    const hasGpuLibrary = ['cuda', 'hip'].some((name) =>
      existsSync(join(libraryFolder, `libtorch_${name}.so`)),
    );
    if (!hasGpuLibrary) {
      expect(count).toBe(0);
      expect(noCudaReason).toMatch(/^this libtorch is a CPU build|^this platform's libtorch has no CUDA/);
    }
    for (let i = 0; i < count; i++) {
      expect(torch.cudaDeviceInfo(i)).toMatchObject({
        name: expect.stringMatching(/./),
        totalBytes: expect.any(Number),
      });
    }
    expect(() => torch.cudaDeviceInfo(count)).toThrow(`there are ${count} CUDA devices`);
  });

  it('sets the number of threads', () => {
    const before = torch.getNumThreads();
    torch.setNumThreads(1);
    expect(torch.getNumThreads()).toBe(1);
    torch.setNumThreads(before);
    expect(() => torch.setNumThreads(0)).toThrow(/expected 1 to 4096/);
  });
});
