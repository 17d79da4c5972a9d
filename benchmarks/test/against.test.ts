/** What `--against` says of two measurements. */
import { describe, expect, it } from 'vitest';
import { compareFigures } from '../src/against.js';
import type { Figure } from '../src/measurement.js';

const figure = (values: readonly number[], better: Figure['better'] = 'lower', name = 'step'): Figure => ({
  ...{ name, unit: 's', better, values },
});

describe('a figure against an earlier one', () => {
  it.each([
    ['lower', [2, 2, 2], [1, 1, 1], 2, 'better'],
    ['lower', [1, 1, 1], [2, 2, 2], 0.5, 'worse'],
    ['higher', [1, 1, 1], [2, 2, 2], 2, 'better'],
    ['higher', [2, 2, 2], [1, 1, 1], 0.5, 'worse'],
  ] as const)(
    'that is better %s: from %j to %j is %d times as good, so %s',
    (better, before, after, ratio, verdict) => {
      expect(compareFigures([figure(before, better)], [figure(after, better)])).toMatchObject([
        { ratio, verdict },
      ]);
    },
  );

  it('is the same within its own noise, and within the 2 % that even steady figures move by', () => {
    const verdict = (before: readonly number[], after: readonly number[]) =>
      compareFigures([figure(before)], [figure(after)])[0].verdict;
    expect(verdict([1, 1, 1], [1.015, 1.015, 1.015])).toBe('same');
    expect(verdict([1, 1, 1], [1.03, 1.03, 1.03])).toBe('worse');
    expect(verdict([0.9, 1, 1.1], [1.03, 1.03, 1.03])).toBe('same');
  });

  it('is left out where only one side has it, or in another unit', () => {
    const other = { ...figure([1]), unit: 'ms' };
    expect(
      compareFigures([figure([1], 'lower', 'gone'), other], [figure([1], 'lower', 'new'), figure([1])]),
    ).toEqual([]);
  });
});
