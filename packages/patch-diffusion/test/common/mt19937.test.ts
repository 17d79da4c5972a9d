import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';

describe('Mt19937', () => {
  it('draws what numpy.random.RandomState draws', () => {
    // Values printed by NumPy 2.4.6, in this order from one generator.
    const rng = new Mt19937(1234);
    expect([1, 2, 3].map(() => rng.randomDouble())).toEqual([
      0.1915194503788923, 0.6221087710398319, 0.4377277390071145,
    ]);
    const ranges = [1, 2, 7, 100, 2 ** 31, 2 ** 32, 1000003];
    expect(ranges.map((n) => rng.randint(0, n))).toEqual([0, 0, 1, 15, 1549064881, 1170776343, 9449]);
    expect(Array.from({ length: 8 }, () => rng.randint(-5, 5))).toEqual([1, 3, -5, 0, -5, 4, 1, -3]);
    expect(Array.from({ length: 10 }, () => rng.choice(3, [0.25, 0.25, 0.5]))).toEqual([
      2, 0, 2, 2, 1, 2, 0, 1, 2, 2,
    ]);
    expect(rng.shuffle(Array.from({ length: 12 }, (_, i) => i))).toEqual([
      6, 9, 0, 5, 8, 2, 4, 7, 11, 1, 10, 3,
    ]);
    expect(rng.nextUint32()).toBe(174187351);
    expect(rng.state.position).toBe(66);
    expect(new Mt19937(4294967295).nextUint32()).toBe(419326371);
  });

  it('goes on exactly from a saved state', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(2000), (seed, draws) => {
        const rng = new Mt19937(seed);
        for (let i = 0; i < draws; i++) rng.nextUint32();
        const { state } = rng;
        const copy = new Mt19937(0);
        copy.state = state;
        const expected = Array.from({ length: 700 }, () => rng.nextUint32());
        expect(Array.from({ length: 700 }, () => copy.nextUint32())).toEqual(expected);
        rng.state = state;
        expect(rng.nextUint32()).toBe(expected[0]);
      }),
      { numRuns: 20 },
    );
  });

  it('keeps randint, choice and shuffle in range', () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer(), fc.integer({ min: 1, max: 2 ** 32 }), (seed, low, span) => {
        const rng = new Mt19937(seed);
        const value = rng.randint(low, low + span);
        expect(value >= low && value < low + span).toBe(true);
        const sorted = [...rng.shuffle([0, 1, 2, 3, 4])].sort();
        expect(sorted).toEqual([0, 1, 2, 3, 4]);
        expect(rng.choice(2, [0, 1])).toBe(1);
        expect(rng.choice(2, [1, 0])).toBe(0);
      }),
    );
  });

  it('refuses what it cannot do', () => {
    expect(() => new Mt19937(-1)).toThrow(/0 to 4294967295/);
    expect(() => new Mt19937(1.5)).toThrow(RangeError);
    expect(() => new Mt19937(0).randint(3, 3)).toThrow(RangeError);
    expect(() => new Mt19937(0).choice(2, [0.5, 0.4])).toThrow(/sum to 1/);
    expect(() => {
      new Mt19937(0).state = { key: Uint32Array.of(1, 2), position: 0 };
    }).toThrow(RangeError);
  });
});
