/** Patch sizes by noise level: the gap of patches against whole images, and who gets which levels. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { binLevel, LEVEL_BINS, type LevelLosses } from '../../src/training/noise-histogram.js';
import { edmDensity } from '../../src/training/noise-levels-by-loss.js';
import { assignLevels, contextGap, coupled } from '../../src/training/sizes-by-noise.js';
import { gaussianErrors as gaussian } from '../helpers/level-losses.js';

const { count } = LEVEL_BINS;
const density = edmDensity({});
const bins = Array.from({ length: count }, (_, b) => b);
const losses = (errors: Float64Array, patches: (bin: number) => number = () => 200): LevelLosses => ({
  sums: errors.map((m, b) => m * patches(b)),
  counts: Float64Array.from(bins, patches),
});
const meanLevel = (of: Float64Array) => of.reduce((sum, p, b) => sum + p * binLevel(b), 0);
/** No gap below σ = 0.5, then up to 0.9. */
const layoutGap = Float64Array.from(bins, (b) => 0.9 / (1 + Math.exp(-4 * (binLevel(b) - Math.log(0.5)))));
const none = new Float64Array(count);

describe('the context gap', () => {
  it('is what the errors say: 1 − m(whole) / m(patch)', () => {
    const gap = contextGap(losses(gaussian.map((m) => 2 * m)), losses(gaussian));
    for (const value of gap) expect(value).toBeCloseTo(0.5, 1);
  });

  it('is that of smooth errors too, though the sizes have their patches at different levels', () => {
    const patchErrors = gaussian.map((m, b) => m / (1 - 0.6 * layoutGap[b]));
    const low = (b: number) => 50_000 * Math.exp(-0.2 * b);
    const high = (b: number) => 50_000 * Math.exp(-0.2 * (count - 1 - b));
    const gap = contextGap(losses(patchErrors, low), losses(gaussian, high));
    for (let b = 16; b < count - 16; b++) expect(Math.abs(gap[b] - 0.6 * layoutGap[b])).toBeLessThan(0.1);
  });

  it('is 0 where nothing was seen', () => {
    const seen = (b: number) => (b < 20 ? 500 : 0);
    const gap = contextGap(
      losses(
        gaussian.map((m) => 4 * m),
        seen,
      ),
      losses(gaussian, seen),
    );
    expect(gap[10]).toBeGreaterThan(0.7);
    expect(gap[60]).toBeCloseTo(0, 5);
  });
});

describe('levels and sizes', () => {
  const sizes = [0.2, 0.3, 0.5].map((share) => ({ share, density }));

  it('stay independent without gaps, and where the gaps of a size are the same at all levels', () => {
    const constant = [0.4, 0.1, 0].map((gap) => new Float64Array(count).fill(gap));
    for (const gaps of [[none, none, none], constant])
      for (const own of coupled(sizes, gaps)) for (const b of bins) expect(own[b]).toBeCloseTo(density[b], 6);
  });

  it('low levels go to small patches, high ones to whole images', () => {
    const gaps = [layoutGap, layoutGap.map((gap) => gap / 2), none];
    const [quarter, half, whole] = coupled(sizes, gaps);
    expect(meanLevel(quarter)).toBeLessThan(meanLevel(half) - 0.1);
    expect(meanLevel(half)).toBeLessThan(meanLevel(whole) - 0.3);
    const above = (of: Float64Array) => bins.reduce((sum, b) => sum + (binLevel(b) > 0 ? of[b] : 0), 0);
    // Of the levels above 1 nearly all are the whole images'; a twentieth is drawn independently.
    const all = 0.2 * above(quarter) + 0.3 * above(half) + 0.5 * above(whole);
    expect((0.5 * above(whole)) / all).toBeGreaterThan(0.94);
    expect(above(quarter) / above(density)).toBeCloseTo(0.05, 2);
  });

  it('sizes keep their shares and levels their density, whatever the gaps', () => {
    const gap = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: count, maxLength: count });
    const size = fc.record({ share: fc.double({ min: 0.01, max: 1, noNaN: true }), gap });
    fc.assert(
      fc.property(fc.array(size, { minLength: 2, maxLength: 4 }), (drawn) => {
        const given = drawn.map(({ share }) => ({ share, density }));
        const result = coupled(
          given,
          drawn.map((one) => Float64Array.from(one.gap)),
        );
        const total = drawn.reduce((sum, { share }) => sum + share, 0);
        for (const own of result) {
          expect(own.every((p) => p >= 0)).toBe(true);
          expect(own.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
        }
        for (const b of bins) {
          const mixed = result.reduce((sum, own, i) => sum + (given[i].share / total) * own[b], 0);
          expect(Math.abs(mixed - density[b])).toBeLessThan(1e-3);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('follow from the losses', () => {
    const small = { share: 0.4, density, losses: losses(gaussian.map((m, b) => m / (1 - layoutGap[b]))) };
    const large = { share: 0.6, density, losses: losses(gaussian) };
    const [low, high] = assignLevels([small, large]);
    expect(meanLevel(low)).toBeLessThan(meanLevel(high) - 0.5);
    expect(assignLevels([large])).toEqual([density]);
  });
});
