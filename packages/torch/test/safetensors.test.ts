import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, openSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import {
  liveTensors,
  readSafetensors,
  SafetensorsError,
  SafetensorsFile,
  type Tensor,
  writeSafetensors,
} from '../src/index.js';
import './close.js';
import { collectGarbage } from './collect-garbage.js';

const SHARED = process.env.SHARED_DIR ?? join(import.meta.dirname, '../../../../shared');
const GOLDEN = process.env.GOLDEN_DIR ?? join(SHARED, 'golden');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const bytesOf = (json: string, data: number): Uint8Array => {
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(8 + text.length + data);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
};

describe('writeSafetensors and SafetensorsFile', () => {
  it('round-trip every element type, shape, order and the metadata', async () => {
    const path = join(folder, 'all.safetensors');
    await collectGarbage();
    const before = liveTensors();
    const tensors: [string, Tensor][] = [
      ['bytes', torch.tensor(Uint8Array.of(1, 2, 255))],
      [
        'f32',
        torch.tensor([
          [1.5, -0],
          [Number.NaN, Number.POSITIVE_INFINITY],
        ]),
      ],
      ['bool', torch.tensor([1, 0, 1], { dtype: 'bool' })],
      ['f64', torch.tensor(Float64Array.of(Math.PI), { shape: [] })],
      ['f16', torch.tensor([0.1, 65504], { dtype: 'float16' })],
      ['bf16', torch.tensor([0.1, 3e38], { dtype: 'bfloat16' })],
      ['i64', torch.tensor(BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n))],
      ['i32', torch.tensor(Int32Array.of(-1, 7))],
      ['empty', torch.zeros([2, 0, 3])],
      [
        'view',
        torch
          .tensor([
            [1, 2, 3],
            [4, 5, 6],
          ])
          .t(),
      ],
      ['__proto__', torch.tensor([1])],
      ['a.b "ü\n😀', torch.tensor([2])],
    ];
    await writeSafetensors(path, tensors, { config: '{"a":1}', ключ: '値' });
    const file = await SafetensorsFile.open(path);
    expect(file.names).toEqual(tensors.map(([name]) => name));
    expect(file.metadata).toEqual({ config: '{"a":1}', ключ: '値' });
    for (const [name, tensor] of tensors) {
      expect(file.info(name)).toEqual({ dtype: tensor.dtype, shape: tensor.shape });
      const read = file.tensor(name);
      expect(read.dtype).toBe(tensor.dtype);
      expect(read.toTypedArray()).toEqual(tensor.toTypedArray());
      read.dispose();
    }
    await file.close();
    expect(() => file.tensor('f32')).toThrow(/already closed/);

    const whole = await readSafetensors(path);
    expect([...whole.tensors.keys()]).toEqual(tensors.map(([name]) => name));
    for (const tensor of [...whole.tensors.values(), ...tensors.map(([, tensor]) => tensor)])
      tensor.dispose();
    await writeSafetensors(path, []);
    expect((await readSafetensors(path)).tensors.size).toBe(0);
    expect(await readdir(folder)).toEqual(['all.safetensors']);
    expect(liveTensors()).toBeLessThanOrEqual(before + 1); // the base of the transposed view is the collector's
  });

  it('aligns every tensor to its element size', async () => {
    const path = join(folder, 'aligned.safetensors');
    using odd = torch.tensor(Uint8Array.of(1, 2, 3));
    using double = torch.ones([2], { dtype: 'float64' });
    await writeSafetensors(path, [
      ['odd', odd],
      ['double', double],
    ]);
    const bytes = await readFile(path);
    const length = Number(bytes.readBigUInt64LE());
    expect(length % 8).toBe(0);
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<
      string,
      { data_offsets: number[] }
    >;
    expect(header.double!.data_offsets).toEqual([0, 16]);
    expect(header.odd!.data_offsets).toEqual([16, 19]);
  });

  it('refuse element types that only operators make', async () => {
    using short = torch.ones([2]).to({ dtype: 'int16' as 'int32' });
    const path = join(folder, 'short.safetensors');
    await expect(writeSafetensors(path, [['s', short]])).rejects.toThrow(
      /tensor "s" is int16; supported are float64/,
    );
  });

  it('keep the old file when writing fails', async () => {
    const path = join(folder, 'old.safetensors');
    using good = torch.ones([1]);
    const gone = torch.ones([1]);
    await writeSafetensors(path, [['good', good]]);
    const tensors: [string, Tensor][] = [
      ['good', good],
      ['gone', gone],
    ];
    gone.dispose();
    await expect(writeSafetensors(path, tensors)).rejects.toThrow();
    await expect(
      writeSafetensors(path, [
        ['a', good],
        ['a', good],
      ]),
    ).rejects.toThrow(/"a" is used twice/);
    await expect(writeSafetensors(join(folder, 'no', 'f'), [['a', good]])).rejects.toThrow(/does not exist/);
    expect((await readSafetensors(path)).tensors.get('good')!).toBeCloseToTensor([1]);
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('SafetensorsFile.open', () => {
  it('names the file and what is wrong with it', async () => {
    const path = join(folder, 'bad.safetensors');
    const header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const cases: [Uint8Array, RegExp][] = [
      [new Uint8Array(0), /it has 0 bytes/],
      [new Uint8Array(5), /it has 5 bytes/],
      [new Uint8Array(100).fill(255), /not a safetensors file/],
      [
        Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12345\n'),
        /this is a git-lfs pointer, not the file itself; run `git lfs pull`/,
      ],
      [bytesOf(header, 7), /"a" ends at byte 8 of the data, but the file has 7; copy or download it again/],
      [bytesOf(header, 9), /1 bytes follow the last tensor/],
      [bytesOf('{}', 0).subarray(0, 9), /its header takes 2 bytes, but only 1 follow/],
    ];
    for (const [bytes, message] of cases) {
      await writeFile(path, bytes);
      await expect(SafetensorsFile.open(path)).rejects.toThrow(SafetensorsError);
      await expect(SafetensorsFile.open(path)).rejects.toThrow(message);
      expect(() => SafetensorsFile.openSync(path)).toThrow(path);
    }
    await expect(SafetensorsFile.open(join(folder, 'none'))).rejects.toThrow(/none: there is no such file/);
    await expect(SafetensorsFile.open(folder)).rejects.toThrow(/not a file/);
  });

  it('tells apart missing names, unsupported element types and files that shrink', async () => {
    const path = join(folder, 'odd.safetensors');
    const header =
      '{"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}';
    await writeFile(path, bytesOf(header, 8));
    using file = SafetensorsFile.openSync(path);
    expect(() => file.tensor('A')).toThrow(/it has no tensor "A" \(2 tensors: a, b\)/);
    expect(() => file.tensor('constructor')).toThrow(/no tensor/);
    expect(() => file.tensor('a')).toThrow(/"a" is I16; supported are F64, F32/);
    expect(file.bytes('a')).toEqual(new Uint8Array(4));
    await truncate(path, 8 + header.length + 6);
    expect(() => file.tensor('b')).toThrow(/became shorter/);
    await expect(file.readTensor('b')).rejects.toThrow(/became shorter/);
  });

  it('is bounded by the real size of the file, and reads past 4 GiB', async () => {
    // A sparse file: 5 GiB on paper, nothing on the disk; the second tensor lies at its end.
    const path = join(folder, 'sparse.safetensors');
    const size = 5 * 2 ** 30;
    const header = `{"big":{"dtype":"U8","shape":[${size}],"data_offsets":[0,${size}]},"last":{"dtype":"I32","shape":[1],"data_offsets":[${size},${size + 4}]}}`;
    await writeFile(path, bytesOf(header, 0));
    const fd = openSync(path, 'r+');
    ftruncateSync(fd, 8 + header.length + size + 4);
    closeSync(fd);
    using file = SafetensorsFile.openSync(path);
    using last = file.tensor('last');
    expect(last).toBeCloseToTensor([0]);
    await rm(path);
  });

  it('answers mutated files with tensors or a clear error', { timeout: 60_000 }, async () => {
    const path = join(folder, 'fuzz.safetensors');
    using a = torch.ones([3]);
    using b = torch.zeros([2, 2], { dtype: 'int64' });
    await writeSafetensors(
      path,
      [
        ['a', a],
        ['b', b],
      ],
      { k: 'v' },
    );
    const valid = await readFile(path);
    const change = fc.record({ at: fc.nat(valid.length - 1), value: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 4 }), fc.nat(valid.length), async (changes, length) => {
        const bytes = Uint8Array.from(valid);
        for (const { at, value } of changes) bytes[at] = value;
        await writeFile(path, length % 3 === 0 ? bytes.subarray(0, length) : bytes);
        try {
          const { tensors } = await readSafetensors(path);
          for (const tensor of tensors.values()) {
            expect(tensor.numel).toBeLessThan(100);
            tensor.dispose();
          }
        } catch (error) {
          expect(error).toBeInstanceOf(SafetensorsError);
          expect((error as Error).message.startsWith(`${path}: `)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('files of others', () => {
  it.skipIf(!existsSync(GOLDEN))('all golden vectors open, and every tensor can be read', async () => {
    const names = (await readdir(GOLDEN, { recursive: true })).filter((name) =>
      name.endsWith('.safetensors'),
    );
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) {
      using file = SafetensorsFile.openSync(join(GOLDEN, name));
      for (const tensor of file.names) {
        using read = file.tensor(tensor);
        expect(read.shape).toEqual(file.info(tensor).shape);
      }
    }
  });

  const python = [process.env.PYTHON, 'python3'].find((command) => {
    try {
      if (!command) return false;
      execFileSync(command, ['-I', '-c', 'import numpy, safetensors.numpy'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
  if (!python) console.warn('no Python with numpy and safetensors (set PYTHON): its reader is not compared');

  it.skipIf(!python)("agree with Python's safetensors, both ways", async () => {
    const [ours, theirs] = [join(folder, 'ours.safetensors'), join(folder, 'theirs.safetensors')];
    using a = torch.tensor([
      [0.5, -2],
      [3, 4],
    ]);
    using b = torch.tensor(Uint8Array.of(7));
    using c = torch.tensor(BigInt64Array.of(-5n), { shape: [] });
    await writeSafetensors(
      ours,
      [
        ['b', b],
        ['a', a],
        ['c', c],
      ],
      { k: 'é"' },
    );
    const script = `
import sys
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
tensors = load_file(sys.argv[1])
assert tensors['a'].tolist() == [[0.5, -2], [3, 4]] and tensors['b'].tolist() == [7] and tensors['c'].tolist() == -5
with safe_open(sys.argv[1], 'np') as file:
    assert file.metadata() == {'k': 'é"'}, file.metadata()
save_file(tensors, sys.argv[2], {'x': 'y'})
`;
    execFileSync(python!, ['-I', '-c', script, ours, theirs]);
    const { tensors, metadata } = await readSafetensors(theirs);
    expect(metadata).toEqual({ x: 'y' });
    expect(tensors.get('a')!).toBeCloseToTensor(a);
    expect(tensors.get('b')!).toBeCloseToTensor(b);
    expect(tensors.get('c')!).toBeCloseToTensor(c);
    for (const tensor of tensors.values()) tensor.dispose();
  });
});
