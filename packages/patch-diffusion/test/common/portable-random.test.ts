/** The random numbers that Node and browsers share. */
import { describe, expect, it } from 'vitest';
import { PortableRandom, philox4x32 } from '../../src/common/portable-random.js';

type Words = [number, number, number, number];

describe('Philox 4x32-10', () => {
  // Random123's known answers: counter, key, words.
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as [Words, [number, number], Words][])(
    'gives the published words for counter %j',
    (counter, key, words) => {
      expect(philox4x32(key, counter)).toEqual(words);
    },
  );
});

describe('PortableRandom', () => {
  it('makes normal numbers of the words as documented', () => {
    const seed = 5 * 2 ** 32 + 17;
    const words = philox4x32([17, 5], [1, 2 + 3, 0, 0]); // block 1 of step 3
    const radius = (a: number) => Math.sqrt(-2 * Math.log((a + 0.5) / 2 ** 32));
    const angle = (b: number) => 2 * Math.PI * (b / 2 ** 32);
    const [a, b, c, d] = words;
    const expected = Float32Array.of(
      radius(a) * Math.cos(angle(b)),
      radius(a) * Math.sin(angle(b)),
      radius(c) * Math.cos(angle(d)),
      radius(c) * Math.sin(angle(d)),
    );
    expect(new PortableRandom(seed).stepNoise(3, 8).subarray(4)).toEqual(expected);
  });

  it('gives the same beginning for any length', () => {
    const random = new PortableRandom(1);
    expect(random.startNoise(7)).toEqual(random.startNoise(1000).subarray(0, 7));
  });

  it('keeps seeds, start and steps apart', () => {
    const streams = [0, 1, 2 ** 32].flatMap((seed) => {
      const random = new PortableRandom(seed);
      return [random.startNoise(2000), random.stepNoise(0, 2000), random.stepNoise(1, 2000)];
    });
    for (const [i, a] of streams.entries()) {
      const mean = a.reduce((sum, x) => sum + x, 0) / a.length;
      const variance = a.reduce((sum, x) => sum + x * x, 0) / a.length;
      expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(a.length));
      expect(Math.abs(variance - 1)).toBeLessThan(4 * Math.sqrt(2 / a.length));
      for (const b of streams.slice(i + 1)) {
        const correlation = a.reduce((sum, x, k) => sum + x * b[k], 0) / a.length;
        expect(Math.abs(correlation)).toBeLessThan(4 / Math.sqrt(a.length));
      }
    }
  });

  it('draws every label', () => {
    const drawn = Array.from({ length: 200 }, (_, seed) => new PortableRandom(seed).label(5));
    expect(new Set(drawn)).toEqual(new Set([0, 1, 2, 3, 4]));
  });

  it.each([-1, 0.5, 2 ** 53, Number.NaN])('refuses the seed %s', (seed) => {
    expect(() => new PortableRandom(seed)).toThrow(/A seed must be an integer/);
  });
});
