import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Stats } from '../../src/run/stats.js';

describe('Stats', () => {
  it('has number, mean and population standard deviation since the last line', () => {
    const stats = new Stats();
    stats.add('a', 1, 2, 3, 4);
    expect(stats.take(5)).toEqual({ a: { num: 4, mean: 2.5, std: Math.sqrt(1.25) }, timestamp: 5 });
    expect(stats.take(6)).toEqual({ timestamp: 6 });
  });

  it('agrees with the definition however the values arrive', () => {
    const value = fc.double({ min: -100, max: 100, noNaN: true });
    fc.assert(
      fc.property(fc.array(fc.array(value), { minLength: 1 }), (parts) => {
        const stats = new Stats();
        for (const part of parts) stats.add('x', ...part);
        const all = parts.flat();
        fc.pre(all.length > 0);
        const mean = all.reduce((a, b) => a + b, 0) / all.length;
        const variance = all.reduce((a, b) => a + (b - mean) ** 2, 0) / all.length;
        const { num, mean: m, std } = stats.get('x');
        expect(num).toBe(all.length);
        expect(m).toBeCloseTo(mean, 8);
        expect(std ** 2).toBeCloseTo(variance, 6);
      }),
    );
  });

  it('keeps patch sizes apart, also those that are not square', () => {
    const stats = new Stats();
    stats.addLoss({ height: 16, width: 16 }, 2, 4, 10);
    stats.addLoss({ height: 64, width: 64 }, 8, 8, 8);
    stats.addLoss({ height: 16, width: 32 }, 1, 3, 9);
    expect(stats.lossPerPatch()).toEqual({ 16: 2, 64: 1, '32x16': 3 });
    expect(stats.get('Loss/loss')).toMatchObject({ num: 11, mean: 15 / 11 });
    expect(Object.keys(stats.take(0))).toContain('Loss/p32x16');
  });

  it('orders a line as the official trainer does, and keeps NaN visible', () => {
    const stats = new Stats();
    for (const name of [
      'Resources/cpu',
      'Timing/sec',
      'Progress/tick',
      'Progress/kimg',
      'Loss/p8',
      'Loss/loss',
    ]) {
      stats.add(name, Number.NaN);
    }
    const line = stats.take(0);
    expect(Object.keys(line)).toEqual([
      'Loss/loss',
      'Loss/p8',
      'Progress/tick',
      'Progress/kimg',
      'Timing/sec',
      'Resources/cpu',
      'timestamp',
    ]);
    expect(stats.get('Loss/loss').mean).toBeNaN();
  });
});
