/** The figures that the benchmark's comparison is judged by. */
import { describe, expect, it } from 'vitest';
import { compareFigures } from '../src/against.js';
import { bestPeer, mixRate, ratiosOf } from '../src/ratios.js';

const sizes = [
  { probability: 0.2, multiplier: 4 },
  { probability: 0.3, multiplier: 2 },
  { probability: 0.5, multiplier: 1 },
];

describe('the mix', () => {
  it('is the expected images over the expected seconds of a step', () => {
    // images: 0.2·16 + 0.3·8 + 0.5·4 = 7.6; seconds: 0.2·1 + 0.3·2 + 0.5·4 = 2.8
    expect(mixRate(sizes, 4, [1, 2, 4])).toBeCloseTo(7.6 / 2.8, 12);
  });
});

describe('ratios', () => {
  const official = { name: 'official', role: 'official', rates: [1, 2, 4] } as const;
  const candidate = { name: 'candidate', role: 'candidate', rates: [2, 4, 5] } as const;
  const ours = { name: 'ours', role: 'ours', rates: [3, 6, 10] } as const;
  const float32 = { name: 'ours fp32', role: 'ours-fp32', rates: [1.5, 3, 6] } as const;

  it('are taken repeat by repeat, against the official settings and the quickest peer', () => {
    const ratios = ratiosOf([ours, float32, official, candidate])!;
    expect(ratios.officialSettings.median).toBe(3);
    expect(ratios.bestPyTorch.median).toBe(1.5);
    expect(ratios.fp32.median).toBe(1.5);
  });

  it('take ours for float32 where it is that by itself', () => {
    expect(ratiosOf([ours, official])!.fp32.median).toBe(3);
  });

  it('are none without a peer', () => {
    expect(ratiosOf([ours, float32])).toBeNull();
  });

  it('count the official settings as the best where nothing is quicker', () => {
    expect(bestPeer([ours, official, { ...candidate, rates: [1, 1, 1] }])?.name).toBe('official');
  });
});

describe('--against', () => {
  const figure = (name: string, better: 'higher' | 'lower', values: number[]) => ({
    name,
    unit: 'u',
    better,
    values,
  });

  it('calls worse what moved by more than the spread, in the direction that is worse', () => {
    const before = [figure('rate', 'higher', [10, 10, 10]), figure('time', 'lower', [10, 10, 10])];
    const verdicts = (after: number) =>
      compareFigures(before, [figure('rate', 'higher', [after]), figure('time', 'lower', [after])]).map(
        ({ verdict }) => verdict,
      );
    expect(verdicts(8)).toEqual(['worse', 'better']);
    expect(verdicts(12)).toEqual(['better', 'worse']);
    expect(verdicts(10.1)).toEqual(['same', 'same']);
  });

  it('does not judge within the noise, nor figures that only one file has', () => {
    const before = [figure('rate', 'higher', [8, 10, 12])];
    expect(compareFigures(before, [figure('rate', 'higher', [9])])[0].verdict).toBe('same');
    expect(compareFigures(before, [figure('other', 'higher', [9])])).toEqual([]);
  });
});
