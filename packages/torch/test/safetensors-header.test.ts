import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeHeader } from '../src/safetensors/encode-header.js';
import { SafetensorsError } from '../src/safetensors/error.js';
import { headerLength, MAX_HEADER_BYTES, parseHeader } from '../src/safetensors/header.js';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const parse = (json: string, dataBytes = 0) => parseHeader(encode(json), dataBytes, 'x.safetensors');
const one = (entry: string): string => `{"a":${entry}}`;
const F32 = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}';

describe('parseHeader', () => {
  it('reads entries in header order with metadata', () => {
    const json = `{ "__metadata__" : {"k":"v \\u00e9", "__proto__":"p"},
      "b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}, "a": ${F32},
      "10":{"shape":[0,3],"data_offsets":[16,16],"dtype":"U8"}}   `;
    const { entries, metadata } = parse(json, 16);
    expect([...entries.keys()]).toEqual(['b', 'a', '10']);
    expect(entries.get('a')).toEqual({ name: 'a', dtype: 'F32', shape: [2], begin: 0, end: 8 });
    expect(Object.entries(metadata)).toEqual([
      ['k', 'v é'],
      ['__proto__', 'p'],
    ]);
    expect(Object.getPrototypeOf(metadata)).toBe(Object.prototype);
  });

  it('takes __proto__ and constructor as ordinary tensor names', () => {
    const entry = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    const { entries } = parse(`{"__proto__":${entry},"constructor":${entry}}`);
    expect([...entries.keys()]).toEqual(['__proto__', 'constructor']);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  it.each<[string, string, number, RegExp]>([
    ['an empty header', '', 0, /expected "{" first/],
    ['leading space', ' {}', 0, /expected "{" first/],
    ['a byte order mark', '\ufeff{}', 0, /expected "{" first/],
    ['no JSON', 'hello', 0, /expected "{" first/],
    ['an unclosed object', '{"a":', 0, /expected "{"/],
    ['text after it', '{} {}', 0, /unexpected text/],
    ['an unclosed string', '{"abc', 0, /closing quote/],
    ['a control character in a name', one(F32).replace('"a"', '"a\n"'), 8, /malformed string/],
    ['half a surrogate pair', one(F32).replace('"a"', '"\\ud800"'), 8, /surrogate/],
    ['a duplicate tensor', `{"a":${F32},"\\u0061":${F32}}`, 8, /"a" occurs twice/],
    ['a duplicate field', one(F32.replace('{', '{"dtype":"F64",')), 8, /"dtype" occurs twice/],
    ['an unknown field', one(F32.replace('{', '{"strides":[1],')), 8, /unknown field "strides"/],
    ['a missing field', one('{"dtype":"F32","shape":[2]}'), 8, /needs dtype, shape and data_offsets/],
    ['an unknown dtype', one(F32.replace('F32', 'F31')), 8, /"a" has the unknown dtype "F31"/],
    ['a negative dimension', one(F32.replace('[2]', '[-2]')), 8, /whole number/],
    ['a fraction', one(F32.replace('[2]', '[2.0]')), 8, /whole number/],
    ['an exponent', one(F32.replace('[2]', '[2e0]')), 8, /whole number/],
    ['a dimension past 2^53', one(F32.replace('[2]', '[9999999999999999]')), 8, /whole number/],
    ['65 dimensions', one(F32.replace('[2]', `[${Array(65).fill(1)}]`)), 8, /more than 64/],
    [
      'an overflowing product',
      one(F32.replace('[2]', '[0,9007199254740991,9]')),
      0,
      /"a" has the shape .*too large/,
    ],
    [
      'a size that does not fit',
      one(F32.replace('[2]', '[3]')),
      8,
      /needs 12 bytes, its data_offsets span 8/,
    ],
    ['reversed offsets', one(F32.replace('[0,8]', '[8,0]')), 8, /data_offsets \[8,0\]/],
    ['three offsets', one(F32.replace('[0,8]', '[0,8,8]')), 8, /data_offsets/],
    ['metadata that is not a string', '{"__metadata__":{"a":1}}', 0, /expected a string/],
    ['an array for a tensor', one('[]'), 0, /expected "{"/],
  ])('refuses %s', (_, json, dataBytes, message) => {
    expect(() => parse(json, dataBytes)).toThrow(SafetensorsError);
    expect(() => parse(json, dataBytes)).toThrow(message);
    expect(() => parse(json, dataBytes)).toThrow(/^x\.safetensors: /);
  });

  it('refuses entries that overlap, leave gaps or exceed the data', () => {
    const at = (begin: number, end: number): string =>
      `{"dtype":"U8","shape":[${end - begin}],"data_offsets":[${begin},${end}]}`;
    expect(() => parse(`{"a":${at(0, 8)},"b":${at(4, 12)}}`, 12)).toThrow(/"b" \(from byte 4\) overlaps "a"/);
    expect(() => parse(`{"a":${at(0, 8)},"b":${at(0, 8)}}`, 8)).toThrow(/overlaps/);
    expect(() => parse(`{"a":${at(0, 4)},"b":${at(8, 12)}}`, 12)).toThrow(
      /bytes 4 to 8 of the data belong to no/,
    );
    expect(() => parse(one(at(0, 8)), 7)).toThrow(/ends at byte 8 of the data, but the file has 7/);
    expect(() => parse(one(at(0, 8)), 9)).toThrow(/1 bytes follow the last tensor/);
  });

  it('refuses what is not UTF-8', () => {
    expect(() => parseHeader(Uint8Array.of(0x7b, 0x22, 0xff, 0x22), 0, 'f')).toThrow(/not valid UTF-8/);
  });

  it('is linear in nasty input', () => {
    const start = performance.now();
    for (const text of [
      `{"${'\\'.repeat(4e6)}`,
      `{"${'\\"'.repeat(2e6)}`,
      `{${' '.repeat(4e6)}`,
      '[{'.repeat(2e6),
    ]) {
      expect(() => parse(text)).toThrow(SafetensorsError);
    }
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe('headerLength', () => {
  const prefix = (length: bigint): Uint8Array => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    return bytes;
  };
  it('is checked against the file before anything is allocated', () => {
    expect(headerLength(prefix(16n), 24, 'f')).toBe(16);
    expect(() => headerLength(prefix(17n), 24, 'f')).toThrow(/its header takes 17 bytes, but only 16 follow/);
    expect(() => headerLength(prefix(2n ** 64n - 1n), 2 ** 40, 'f')).toThrow(/not a safetensors file/);
    expect(() => headerLength(prefix(BigInt(MAX_HEADER_BYTES) + 1n), 2 ** 40, 'f')).toThrow(/limit/);
    expect(() => headerLength(new Uint8Array(3), 3, 'f')).toThrow(/it has 3 bytes/);
  });
});

describe('encodeHeader and parseHeader', () => {
  const name = fc.string({ unit: 'grapheme', maxLength: 12 }).filter((text) => text !== '__metadata__');
  const layout = fc.record({
    name,
    dtype: fc.constantFrom('F64' as const, 'F32' as const, 'BF16' as const, 'I64' as const, 'U8' as const),
    shape: fc.array(fc.nat(5), { maxLength: 4 }),
  });
  const layouts = fc.uniqueArray(layout, { selector: (item) => item.name, maxLength: 8 });

  it('round-trip, aligned, in the given order', () => {
    fc.assert(
      fc.property(layouts, fc.dictionary(name, fc.string()), (tensors, metadata) => {
        const { bytes } = encodeHeader(tensors, metadata, 'f');
        const items = { F64: 8, F32: 4, BF16: 2, I64: 8, U8: 1 };
        const total = tensors.reduce((sum, t) => sum + t.shape.reduce((a, b) => a * b, items[t.dtype]), 0);
        expect(bytes.length % 8).toBe(0);
        const length = headerLength(bytes.subarray(0, 8), bytes.length + total, 'f');
        expect(length).toBe(bytes.length - 8);
        const parsed = parseHeader(bytes.subarray(8), total, 'f');
        expect(
          [...parsed.entries.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape })),
        ).toEqual(tensors);
        for (const { begin, dtype } of parsed.entries.values()) expect(begin % items[dtype as 'F32']).toBe(0);
        expect(Object.entries(parsed.metadata)).toEqual(Object.entries(metadata));
      }),
    );
  });

  it('never answer a mutated header with anything but a value or a clear error', () => {
    const mutation = fc.record({ at: fc.nat(), remove: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) });
    const json = fc.constantFrom(
      '"',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '0',
      '-',
      'e',
      '\\',
      ' ',
      '"__proto__"',
      'null',
    );
    const textual = fc.record({ at: fc.nat(), remove: fc.nat(3), insert: json.map(encode) });
    fc.assert(
      fc.property(
        layouts,
        fc.array(fc.oneof(mutation, textual), { minLength: 1, maxLength: 4 }),
        (tensors, changes) => {
          let bytes = encodeHeader(tensors, { k: 'v' }, 'f').bytes.subarray(8);
          for (const { at, remove, insert } of changes) {
            const from = at % (bytes.length + 1);
            bytes = Uint8Array.from([
              ...bytes.subarray(0, from),
              ...insert,
              ...bytes.subarray(from + remove),
            ]);
          }
          try {
            const { entries } = parseHeader(bytes, 64, 'f');
            // What is accepted is JSON, and means the same to any JSON parser.
            const value = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, { shape: number[] }>;
            for (const { name, shape } of entries.values()) expect(value[name].shape).toEqual(shape);
          } catch (error) {
            expect(error).toBeInstanceOf(SafetensorsError);
            expect((error as Error).message).toMatch(/^f: .{10}/);
            expect((error as Error).message.length).toBeLessThan(500);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('refuses names and metadata that cannot be written', () => {
    const f32 = { dtype: 'F32' as const, shape: [1] };
    expect(() => encodeHeader([{ name: '__metadata__', ...f32 }], {}, 'f')).toThrow(/reserved/);
    expect(() =>
      encodeHeader(
        [
          { name: 'a', ...f32 },
          { name: 'a', ...f32 },
        ],
        {},
        'f',
      ),
    ).toThrow(/"a" is used twice/);
    expect(() => encodeHeader([{ name: '\udc00', ...f32 }], {}, 'f')).toThrow(/not valid Unicode/);
    expect(() => encodeHeader([], { a: 1 as unknown as string }, 'f')).toThrow(/JSON\.stringify/);
  });
});
