/** The pickle reader by itself: values, and what hostile files try. */
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { Budget } from '../../src/formats/pickle/budget.js';
import { type ByteSlice, MemorySource } from '../../src/formats/pickle/byte-source.js';
import { defineGlobal } from '../../src/formats/pickle/names.js';
import { type PickleHost, readPickle } from '../../src/formats/pickle/pickle.js';
import { readTorchFile, type TensorRef } from '../../src/formats/torch-file/index.js';
import {
  bytes,
  Call,
  legacyStorage,
  legacyStream,
  Name,
  nestedTensor,
  PersistentId,
  pickle,
  Tuple,
  tensorOf,
} from '../helpers/pickler.js';

const host: PickleHost = {
  find: (name) => (name === 'test.list' ? defineGlobal(name, (args) => ['called', ...args]) : undefined),
  persistent: (id) => ['persistent', id],
  build: () => false,
};
const read = (data: Uint8Array): unknown =>
  readPickle(new MemorySource(data), 0, host, new Budget('x.pkl', data.length)).value;
const open = (data: Uint8Array) => readTorchFile(new MemorySource(data), 'x.pkl');

describe('values', () => {
  it('reads all protocols', () => {
    expect(read(bytes("(dp0\nS'a'\np1\nI1\nsV\\u00fc\nL-5L\nsg1\nI01\ns."))).toEqual(
      new Map<string, unknown>([
        ['a', true],
        ['ü', -5],
      ]),
    );
    expect(read(bytes('(lp0\nF1.5\naFinf\na(I1\nI2\ntp1\na.'))).toEqual([1.5, Infinity, [1, 2]]);
    expect(read(bytes('(I1\nI2\nd.'))).toEqual(new Map([[1, 2]]));
    expect(read(bytes(0x80, 1, ']q', 0, '(', 'K', 1, 'U', 1, 'x', 'h', 0, 'e0K', 7, '2', 0x86, '.'))).toEqual(
      [7, 7],
    );
    for (const protocol of [2, 3, 4, 5]) {
      const value = new Map<unknown, unknown>([
        ['k', [1, -70_000, 0.1, 2n ** 70n, null, true, 'é'.repeat(300)]],
      ]);
      expect(read(pickle(value, protocol))).toEqual(value);
    }
  });

  it('reads long integers with their sign', () => {
    expect(read(bytes(0x80, 2, 0x8a, 0, '.'))).toBe(0);
    expect(read(bytes(0x80, 2, 0x8a, 1, 0xff, '.'))).toBe(-1);
    expect(read(bytes(0x80, 2, 0x8a, 2, 0xff, 0, '.'))).toBe(255);
    expect(read(bytes(0x80, 2, 0x8b, 9, ...new Array(11).fill(0), 1, '.'))).toBe(2n ** 64n);
  });

  it('reads sets, frozen sets, byte strings and memo indices', () => {
    expect(read(bytes(0x80, 4, 0x8f, 0x94, '(K', 1, 'K', 2, 0x90, '.'))).toEqual(new Set([1, 2]));
    expect(read(bytes(0x80, 4, '(K', 1, 0x91, '.'))).toEqual(new Set([1]));
    const slice = read(bytes(0x80, 4, 'C', 3, 'abc', '.')) as ByteSlice;
    expect(Buffer.from(slice.bytes()).toString()).toBe('abc');
    expect(read(bytes('N', 'r', 0xff, 0xff, 0xff, 0xff, 'j', 0xff, 0xff, 0xff, 0xff, 0x86, '.'))).toEqual([
      null,
      null,
    ]);
  });

  it('calls only what is allowed', () => {
    expect(read(pickle(new Call('test.list', [1])))).toEqual(['called', 1]);
    expect(read(pickle(new PersistentId('k')))).toEqual(['persistent', 'k']);
  });
});

describe('refused', () => {
  const refused = (data: Uint8Array, pattern: RegExp) => {
    const attempt = () => read(data);
    expect(attempt).toThrow(UserError);
    expect(attempt).toThrow(pattern);
  };

  it('names that are not on the list, by name', async () => {
    refused(
      pickle(new Call('os.system', ['echo pwned'])),
      /it names the Python object "os\.system".*nothing of it was executed/,
    );
    refused(pickle(new Name('builtins.eval')), /builtins\.eval/);
    refused(bytes(0x80, 4, 0x8c, 2, 'os', 0x8c, 6, 'system', 0x93, '.'), /os\.system/);
    await expect(open(pickle(new Call('posix.system', ['x'])))).rejects.toThrow(/posix\.system/);
    // Names of JavaScript's own objects are nothing special.
    for (const name of ['__proto__.constructor', 'constructor.prototype', 'Object.toString']) {
      refused(pickle(new Name(name)), /is refused/);
    }
  });

  it('instructions that official files do not use', () => {
    for (const code of ['(ios\nsystem\n.', '(o.', 'Pid\n.'])
      refused(bytes(code), /pickle instruction (INST|OBJ|PERSID)/);
    for (const code of [0x82, 0x83, 0x84, 0x97, 0x98])
      refused(bytes(0x80, 4, code, 1, 0, 0, 0, '.'), /pickle instruction/);
    refused(bytes(0x80, 4, 0xff, '.'), /there is no pickle instruction 0xff/);
    refused(bytes(0x80, 6, 'N.'), /protocol 6/);
  });

  it('calls of things that are not callable, and states for things that have none', () => {
    refused(bytes(0x80, 4, ')', ')', 'R.'), /it calls a value of type Array/);
    refused(bytes(0x80, 4, 'C', 1, 'x', ')', 'R.'), /it calls bytes/);
    refused(bytes(0x80, 4, ']', '}', 'b.'), /sets the state/);
    refused(bytes(0x80, 4, 'ctest\nlist\n)}(K', 1, 'K', 1, 'u', 0x92, '.'), /keyword arguments/);
  });

  it('persistent ids in a plain pickle', async () => {
    await expect(open(pickle(new PersistentId('x')))).rejects.toThrow(/outside of itself/);
  });
});

describe('damage and bombs', () => {
  const broken = (data: Uint8Array, pattern: RegExp | string = /is not a readable checkpoint/) => {
    expect(() => read(data)).toThrow(pattern);
  };

  it('ends too early, anywhere', () => {
    const whole = pickle(new Map<unknown, unknown>([['key', ['text', 1.5, 70_000, Buffer.from('bytes')]]]));
    for (let length = 0; length < whole.length; length++) broken(whole.subarray(0, length));
  });

  it('stack underflow and marks', () => {
    for (const code of [
      '.',
      '0.',
      '2.',
      'a.',
      's.',
      'e.',
      't.',
      '1.',
      'R.',
      'b.',
      'Q.',
      '(R.',
      'N(2.',
      ')a.',
      '}N(s.',
      'NN(Ns.',
    ]) {
      broken(bytes(0x80, 4, code));
    }
    broken(bytes(0x80, 4, 'h', 3, '.'), /refers to value 3/);
  });

  it('claims of huge lengths cost nothing', () => {
    const huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0];
    for (const opcode of ['X', 'B', 'T']) broken(bytes(0x80, 4, opcode, 0xff, 0xff, 0xff, 0xff, 'x.'));
    for (const opcode of [0x8d, 0x8e, 0x95, 0x96]) broken(bytes(0x80, 4, opcode, ...huge, 'x.'));
    for (const opcode of [0x8d, 0x8e])
      broken(bytes(0x80, 4, opcode, ...huge.map(() => 0xff), 'x.'), /claims/);
    broken(bytes(0x80, 4, 0x8b, 0xff, 0xff, 0xff, 0x7f, '.'), /integer of/);
    broken(bytes('I', '9'.repeat(5000), '\n.'), /a line of more than/);
    broken(bytes('L', '9'.repeat(2000), 'L\n.'), /no integer/);
  });

  it('nesting has no depth limit to break, and circles are harmless', () => {
    const deep = 200_000;
    expect(Array.isArray(read(bytes(0x80, 4, ']'.repeat(deep), 'a'.repeat(deep - 1), '.')))).toBe(true);
    const circle = read(bytes(0x80, 4, ']', 0x94, 'h', 0, 'a.')) as unknown[];
    expect(circle[0]).toBe(circle);
  });

  it('doubling by reference stays linear', () => {
    // Forty lists, each twice in the next: 2^40 leaves for whoever walks them.
    const doubled = Array.from({ length: 40 }, () => bytes('2', 0x86));
    expect(read(bytes(0x80, 4, ')', ...doubled, '.'))).toHaveLength(2);
  });

  it('many objects from few bytes are charged', () => {
    const count = 400_000;
    broken(bytes(0x80, 4, Buffer.alloc(count, '}'), '.'), /far more memory than the file has bytes/);
    broken(bytes(0x80, 4, 'N', Buffer.alloc(2_000_000, 0x94), '.'), /far more memory/);
  });

  it('the same nested stream, parsed again and again, is charged', async () => {
    const stream = legacyStream(
      Array.from({ length: 3000 }, () => 1),
      [],
    );
    const load = bytes('h', 1, 'h', 2, 'R0');
    const start = performance.now();
    const bomb = bytes(
      ...[
        0x80,
        4,
        'ctorch.storage\n_load_from_bytes\n',
        'q',
        1,
        'B',
        Buffer.of(stream.length & 255, stream.length >> 8, 0, 0),
      ],
      ...[stream, 0x85, 'q', 2, '0', '0', Buffer.concat(Array.from({ length: 5000 }, () => load)), 'N.'],
    );
    await expect(open(bomb)).rejects.toThrow(/more instructions than bytes/);
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('tensors', () => {
  const values = Float32Array.from({ length: 6 }, (_, i) => i + 0.5);
  const storage = new Call('torch.storage._load_from_bytes', [legacyStorage(values)]);
  const load = async (tensor: unknown) =>
    (await open(pickle(new Map([['t', tensor]])))) as Map<string, TensorRef>;
  const floats = (t: TensorRef) => {
    const b = t.bytes();
    return [...new Float32Array(b.buffer, b.byteOffset, b.byteLength / 4)];
  };

  it('reads nested storages, with the tag of a GPU', async () => {
    const t = (await load(nestedTensor(values, [2, 3]))).get('t')!;
    expect([t.shape, floats(t)]).toEqual([[2, 3], [...values]]);
  });

  it('honours strides and offsets', async () => {
    expect(floats((await load(tensorOf(storage, [3, 2], [1, 3]))).get('t')!)).toEqual([
      0.5, 3.5, 1.5, 4.5, 2.5, 5.5,
    ]);
    expect(floats((await load(tensorOf(storage, [2], [2], 1))).get('t')!)).toEqual([1.5, 3.5]);
    expect(floats((await load(tensorOf(storage, [], [], 5))).get('t')!)).toEqual([5.5]);
    expect(floats((await load(tensorOf(storage, [0, 4]))).get('t')!)).toEqual([]);
  });

  it.each([
    ['beyond the end', [7], [1], 0],
    ['an offset beyond the end', [1], [1], 6],
    ['strides beyond the end', [2, 2], [5, 2], 0],
    ['negative strides', [2], [-1], 3],
    ['expanded', [1000, 1000], [0, 0], 0],
    ['more dimensions than strides', [2, 3], [1], 0],
    ['overflow', [2 ** 30, 2 ** 30], [2 ** 30, 1], 0],
  ])('refuses a tensor %s', async (_, shape, strides, offset) => {
    await expect(load(tensorOf(storage, shape, strides, offset))).rejects.toThrow(UserError);
  });

  it('refuses streams whose counts do not fit', async () => {
    const stream = legacyStorage(values);
    for (const cut of [1, 8, 24, 25, 32, 100]) {
      const short = new Call('torch.storage._load_from_bytes', [stream.subarray(0, stream.length - cut)]);
      await expect(load(tensorOf(short, [6]))).rejects.toThrow(UserError);
    }
    const wrong = Buffer.from(stream);
    wrong.writeBigInt64LE(7n, stream.length - 32);
    await expect(load(tensorOf(new Call('torch.storage._load_from_bytes', [wrong]), [6]))).rejects.toThrow(
      /7 elements where 6/,
    );
  });

  it('refuses a plain legacy file whose storages are missing', async () => {
    const id = new PersistentId(new Tuple(['storage', new Name('torch.FloatStorage'), 'a', 'cpu', 6, null]));
    await expect(open(legacyStream(new Map([['t', tensorOf(id, [6])]]), []))).rejects.toThrow(
      /data of storage "a" is missing/,
    );
    const dict = (await open(legacyStream(new Map([['t', tensorOf(id, [6])]]), [['a', values]]))) as Map<
      string,
      TensorRef
    >;
    expect(floats(dict.get('t')!)).toEqual([...values]);
  });
});
