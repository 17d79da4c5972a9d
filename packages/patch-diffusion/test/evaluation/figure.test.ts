import { describe, expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { jackknife, meanFigure } from '../../src/evaluation/figure.js';

describe('intervals', () => {
  // 20 × 200 uniform values: the mean is 0.5 ± 1.96 · √(1/12 / 200).
  it('of a mean hold the true mean 95 times of 100, and have the width that theory gives', () => {
    const random = new Mt19937(1);
    let hits = 0;
    let width = 0;
    for (let k = 0; k < 20; k++) {
      const { low, high } = meanFigure(Float64Array.from({ length: 200 }, () => random.randomDouble()));
      if (low <= 0.5 && 0.5 <= high) hits++;
      width += (high - low) / 20;
    }
    expect(hits).toBeGreaterThanOrEqual(17);
    expect(width).toBeCloseTo(2 * 1.96 * Math.sqrt(1 / 12 / 200), 2);
  });

  // Of a mean, the groups left out give the usual standard error of the group means.
  it('of groups left out are those of a mean where the statistic is one', () => {
    const groups = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    const mean = 5.5;
    const without = groups.map((value) => (55 - value) / 9);
    const { low, high } = jackknife(mean, without, Number.NEGATIVE_INFINITY);
    const error = Math.sqrt(groups.reduce((s, v) => s + (v - mean) ** 2, 0) / 9 / 10);
    expect(high - mean).toBeCloseTo(1.96 * error, 12);
    expect(mean - low).toBeCloseTo(1.96 * error, 12);
  });

  it('of a distance do not go below 0', () => {
    expect(jackknife(0.1, [0, 1, 2, 3]).low).toBe(0);
  });
});
