import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InfiniteSampler, roundHalfEven } from '../../src/data/sampler.js';
import { chooseSubset, others } from '../../src/data/subset.js';

describe('InfiniteSampler', () => {
  it('gives the order stated in the specification', () => {
    const one = new InfiniteSampler({ length: 10, seed: 0 });
    expect([...one.next(24)]).toEqual([
      2, 8, 4, 9, 1, 6, 2, 3, 0, 9, 7, 8, 1, 5, 6, 4, 3, 8, 2, 1, 9, 6, 7, 5,
    ]);
    const second = new InfiniteSampler({ length: 10, seed: 0, rank: 1, worldSize: 2 });
    expect([...second.next(12)]).toEqual([8, 9, 6, 3, 9, 8, 5, 4, 8, 1, 6, 5]);
  });

  const options = fc.record({
    length: fc.integer({ min: 1, max: 40 }),
    seed: fc.nat(0xffffffff),
    mode: fc.constantFrom('window' as const, 'epochs' as const),
  });

  it('does not depend on how many items are taken at a time, and resumes exactly', () => {
    fc.assert(
      fc.property(options, fc.nat(60), fc.nat(60), (opts, before, after) => {
        const whole = new InfiniteSampler(opts);
        const expected = [...whole.next(before + after)];
        const parts = new InfiniteSampler(opts);
        expect([...parts.next(before)]).toEqual(expected.slice(0, before));
        const resumed = new InfiniteSampler({ ...opts, seed: 7 });
        resumed.state = parts.state;
        expect([...resumed.next(after)]).toEqual(expected.slice(before));
        expect([...parts.next(after)]).toEqual(expected.slice(before));
      }),
    );
  });

  it('deals the same stream out to the ranks', () => {
    fc.assert(
      fc.property(options, fc.integer({ min: 1, max: 5 }), (opts, worldSize) => {
        const stream = [...new InfiniteSampler(opts).next(worldSize * 9)];
        for (let rank = 0; rank < worldSize; rank++) {
          const own = new InfiniteSampler({ ...opts, rank, worldSize }).next(9);
          expect([...own]).toEqual(stream.filter((_, q) => q % worldSize === rank));
        }
      }),
    );
  });

  it('visits every item once per epoch in mode epochs', () => {
    const sampler = new InfiniteSampler({ length: 23, seed: 5, mode: 'epochs' });
    const epochs = [sampler.next(23), sampler.next(23)];
    for (const epoch of epochs) expect([...epoch].sort((a, b) => a - b)).toEqual([...Array(23).keys()]);
    expect([...epochs[0]]).not.toEqual([...epochs[1]]);
  });

  it('refuses states that do not fit, and impossible options', () => {
    const sampler = new InfiniteSampler({ length: 4 });
    const { state } = new InfiniteSampler({ length: 5 });
    expect(() => {
      sampler.state = state;
    }).toThrow(/does not fit/);
    expect(() => {
      sampler.state = { ...sampler.state, order: Int32Array.of(0, 1, 1, 3) };
    }).toThrow(/damaged/);
    expect(() => new InfiniteSampler({ length: 0 })).toThrow(RangeError);
    expect(() => new InfiniteSampler({ length: 3, rank: 2, worldSize: 2 })).toThrow(/world/);
  });
});

describe('subsets', () => {
  it('splits into two ascending, disjoint parts', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.nat(50), fc.nat(), (length, count, seed) => {
        const heldOut = chooseSubset(length, count, seed);
        const train = others(length, heldOut);
        expect(heldOut.length).toBe(Math.min(count, length));
        expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual([...Array(length).keys()]);
        expect([...train]).toEqual([...train].sort((a, b) => a - b));
      }),
    );
  });

  it('rounds halves to even', () => {
    expect([0.5, 1.5, 2.5, 18.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 18, 2, 3]);
  });
});
