/** What `npm run reproduce` concludes from curves. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compare, interval, timeTo, timeToFd } from '../src/reproduce/analysis.js';
import { beds, HELD_OUT, presentBeds } from '../src/reproduce/beds.js';
import { openRuns, runsOf } from '../src/reproduce/grid.js';
import { addResult, type Result, readResults } from '../src/reproduce/results.js';

/** A run whose loss falls by these values, evaluated in even steps. */
function result(recipe: string, seed: number, losses: readonly number[], budgetSec = 100): Result {
  const points = losses.map((heldOutLoss, k) => {
    const cpuSec = ((k + 1) / losses.length) * budgetSec;
    return { cpuSec, wallSec: cpuSec, kimg: cpuSec, heldOutLoss };
  });
  const place = { command: 'train', commit: 'abc', cpu: 'cpu', node: 'v22', libtorch: '2.13', date: 'today' };
  return { bed: 'cats-32', recipe, seed, budgetSec, status: 'done', points, ...place };
}

describe('the factor', () => {
  it('is the budget over the time of the first evaluation at or below the final loss of the best whole images', () => {
    const comparison = compare(
      [
        ...[result('whole-b16', 1, [4, 3, 2.5, 2.2]), result('whole-b8', 1, [4, 3, 2.5, 2])],
        result('annealed', 1, [3, 2, 1.9, 1.8]),
      ],
      'cats-32',
      100,
    );
    expect(comparison?.baseline).toBe('whole-b8');
    const annealed = comparison?.rows.find(({ recipe }) => recipe === 'annealed');
    expect(annealed?.factor?.value?.mean).toBeCloseTo(2, 12); // 100 s / 50 s
    expect(annealed?.factor?.missed).toBe(0);
    expect(annealed?.equal?.at(-1)).toEqual(annealed?.factor);
    expect(annealed?.equal?.map(({ value }) => value?.mean)).toEqual(
      [1, 1, 2, 2].map((x) => expect.closeTo(x, 12)),
    );
  });

  it('counts seeds that never get there apart, and compares each seed with its own', () => {
    const comparison = compare(
      [
        ...[result('whole-b8', 1, [4, 3, 2.5, 2]), result('whole-b8', 2, [4, 3, 2.5, 1])],
        ...[result('annealed', 1, [2, 1.9, 1.8, 1.7]), result('annealed', 2, [3, 2, 1.9, 1.8])],
      ],
      'cats-32',
      100,
    );
    const annealed = comparison?.rows.find(({ recipe }) => recipe === 'annealed');
    expect(annealed?.factor?.value).toMatchObject({ n: 1 });
    expect(annealed?.factor?.value?.mean).toBeCloseTo(4, 12);
    expect(annealed?.factor?.missed).toBe(1);
  });

  it('of recipes with extras is told twice: whole images with them are no baseline of the others', () => {
    const comparison = compare(
      [
        ...[result('whole-b8', 1, [4, 3, 2.5, 2]), result('whole-b8-muon', 1, [4, 2, 1.5, 1])],
        ...[result('annealed-muon', 1, [2, 1.5, 1, 0.9]), result('annealed', 1, [3, 2, 1.9, 1.8])],
      ],
      'cats-32',
      100,
    );
    expect(comparison?.baseline).toBe('whole-b8');
    const row = (name: string) => comparison?.rows.find(({ recipe }) => recipe === name);
    expect(row('annealed-muon')?.factor?.value?.mean).toBeCloseTo(4, 12);
    expect(row('annealed-muon')?.equal?.at(-1)?.value?.mean).toBeCloseTo(4 / 3, 12);
    expect(row('whole-b8-muon')?.factor?.value?.mean).toBeCloseTo(2, 12);
    expect(row('whole-b8-muon')?.equal).toBeNull();
    expect(row('annealed')?.equal?.at(-1)?.value?.mean).toBeCloseTo(2, 12);
  });

  it('has the baseline of most seeds, since seeds differ by more than recipes', () => {
    const runs = [
      result('whole-b8', 1, [2]),
      result('whole-b8', 2, [3]),
      result('whole-b8-lr2e-3', 1, [2.1]),
    ];
    expect(compare(runs, 'cats-32', 100)?.baseline).toBe('whole-b8');
  });

  it('is not there without whole images', () => {
    expect(compare([result('annealed', 1, [1])], 'cats-32', 100)).toBeNull();
  });

  it('takes the time of an evaluation, not a guess between two', () => {
    expect(timeTo(result('annealed', 1, [3, 1]).points, 2)).toBe(100);
    expect(timeTo(result('annealed', 1, [3, 2.5]).points, 2)).toBeNull();
  });
});

describe('samples', () => {
  it('are compared figure by figure, over the runs that have them', () => {
    const measured = (seed: number, samples?: Record<string, number>) => ({
      ...result('whole-b8', seed, [1]),
      ...(samples ? { samples } : {}),
    });
    const runs = [measured(1, { avatarValidity: 0.5 }), measured(2, { avatarValidity: 0.7, memorised: 0 })];
    const { rows } = compare([...runs, measured(3)], 'cats-32', 100)!;
    expect(rows[0].samples.avatarValidity).toMatchObject({ n: 2 });
    expect(rows[0].samples.avatarValidity.mean).toBeCloseTo(0.6, 12);
    expect(rows[0].samples.memorised).toMatchObject({ mean: 0, n: 1 });
  });
});

describe('the factor by the Fréchet distance of samples', () => {
  /** Distances at the thirds of 90 s. */
  const withFd = (recipe: string, seed: number, distances: readonly number[]): Result => {
    const run = result(recipe, seed, [3, 2, 1], 90);
    const points = run.points.map((point, k) => ({ ...point, samples: { fd: distances[k] } }));
    return { ...run, points };
  };

  it('takes the time of the distance that whole images end at between two measurements', () => {
    const runs = [withFd('whole-b8', 1, [64, 16, 8]), withFd('annealed', 1, [32, 2, 1])];
    const row = compare(runs, 'cats-32', 90)?.rows.find(({ recipe }) => recipe === 'annealed');
    // From 32 to 8 is half the way to 2 in logarithms: 45 of 90 s.
    expect(row?.factorByFd?.value?.mean).toBeCloseTo(2, 12);
    expect(row?.factorByFd?.missed).toBe(0);
  });

  it('is no better than the first measurement, counts what is missed, and is not there without figures', () => {
    expect(timeToFd(withFd('annealed', 1, [1, 1, 1]).points, 8)).toBe(30);
    const runs = [withFd('whole-b8', 1, [64, 16, 8]), withFd('annealed', 1, [64, 32, 16])];
    const row = (some: readonly Result[]) =>
      compare(some, 'cats-32', 90)?.rows.find(({ recipe }) => recipe === 'annealed');
    expect(row(runs)?.factorByFd).toEqual({ value: null, missed: 1 });
    expect(row([runs[0], result('annealed', 1, [3, 2, 1], 90)])?.factorByFd).toBeNull();
  });
});

describe('sets of images', () => {
  it('of few images train on so many, and are trained on only when they are named', () => {
    expect(beds['avatars-16-n500'].options).toMatchObject({ maxImages: 500 + HELD_OUT });
    expect(beds['avatars-16-n500'].metrics).toEqual(beds['avatars-16'].metrics);
    expect(beds['cats-32-n2000'].metrics).toContain('memorisation');
    expect(presentBeds()).toContain('avatars-16');
    expect(presentBeds().every((name) => beds[name].options.maxImages === undefined)).toBe(true);
  });
});

describe('an interval', () => {
  it("is Student's: mean ± t · s / √n", () => {
    // t(0.975, 2) = 4.303, s = 1
    const { mean, low, high } = interval([1, 2, 3]);
    expect(mean).toBe(2);
    expect(high - mean).toBeCloseTo(4.303 / Math.sqrt(3), 3);
    expect(mean - low).toBeCloseTo(high - mean, 12);
  });

  it('is infinite for one seed', () => {
    expect(interval([1]).high).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('the grid', () => {
  it('leaves out what is there already', () => {
    const grid = {
      beds: ['cats-32'],
      recipes: ['whole-b8', 'annealed'],
      seeds: [1, 2],
      budgetSec: 100,
    } as const;
    const elsewhere = { ...result('whole-b8', 2, [1]), cpu: 'another' };
    const open = openRuns(runsOf(grid), [result('annealed', 1, [1]), elsewhere], 'cpu');
    expect(open.map(({ recipe, seed }) => `${recipe} ${seed}`)).toEqual([
      'whole-b8 1',
      'whole-b8 2',
      'annealed 2',
    ]);
  });
});

describe('results', () => {
  it('are lines that are appended, and a damaged one is named', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'results-'));
    try {
      const file = join(dir, 'new', 'recipes.jsonl');
      const [first, second] = [result('whole-b8', 1, [1]), result('annealed', 1, [1])];
      expect(await readResults(file)).toEqual([]);
      await addResult(file, first);
      await addResult(file, second);
      expect(await readResults(file)).toEqual([first, second]);
      await writeFile(file, `${JSON.stringify(first)}\n{"bed"\n`);
      await expect(readResults(file)).rejects.toThrow(/recipes\.jsonl, line 2: this is not a result/);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
