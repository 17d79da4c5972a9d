/** How much sooner a recipe reaches the final quality of whole images: means and 95 % intervals over seeds. */
import { type Recipe, type RecipeName, recipes } from './recipes.js';
import type { Point, Result } from './results.js';

/** A mean over seeds with its 95 % interval (Student's t); the interval is infinite for one seed. */
export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
  readonly n: number;
}

/** One recipe on one bed, at one budget. */
export interface Row {
  readonly recipe: RecipeName;
  readonly seeds: readonly number[];
  readonly finalLoss: Interval;
  /** Against the baseline; null for the baseline itself, and where no seed is shared. */
  readonly factor: Factor | null;
  /** {@link factor} by the Fréchet distance of samples instead of the loss; null where it was not measured on both sides. */
  readonly factorByFd: Factor | null;
  /** Figures of samples at the end, by name; none where none were measured. */
  readonly samples: Readonly<Record<string, Interval>>;
  /**
   * Against whole images with the same extras, at shares of the budget ({@link SHARES}): against what they had reached then.
   * Null where there are none.
   */
  readonly equal: readonly Factor[] | null;
  /** The same, against the published recipe in PyTorch; null where there is none. */
  readonly pytorch: Factor | null;
}

/** Shares of the budget at which recipes are compared: a head start shows early, and what is left of it at the end. */
export const SHARES = [0.1, 0.25, 0.5, 1] as const;

/** How much sooner a recipe is than another. */
export interface Factor {
  /** The other's time ÷ time to its loss then, geometric mean over the seeds that both have; null where no seed gets there. */
  readonly value: Interval | null;
  /** Seeds that never came down to that loss; they are not in `value`. */
  readonly missed: number;
}

export interface Comparison {
  readonly bed: string;
  readonly budgetSec: number;
  readonly baseline: RecipeName;
  readonly rows: readonly Row[];
}

/**
 * Compares all recipes of a bed and budget with the best of whole images, and those with extras also with the best of whole
 * images that have them; null without plain whole images. The results must be of one machine.
 */
export function compare(results: readonly Result[], bed: string, budgetSec: number): Comparison | null {
  const here = results.filter(
    (result) => result.bed === bed && result.budgetSec === budgetSec && result.status === 'done',
  );
  const names = [...new Set(here.map(({ recipe }) => recipe as RecipeName))];
  const finalLosses = names.map((recipe) => {
    const runs = here.filter((result) => result.recipe === recipe);
    return { recipe, runs, finalLoss: interval(runs.map(finalLoss)) };
  });
  finalLosses.sort((a, b) => a.finalLoss.mean - b.finalLoss.mean);
  // Seeds differ by more than recipes: only those with equally many are compared.
  const bestWhole = (extras: string | undefined) => {
    const whole = finalLosses.filter(
      ({ recipe }) => recipes[recipe]?.kind === 'whole' && extrasOf(recipe) === extras,
    );
    const most = Math.max(...whole.map(({ runs }) => runs.length));
    return whole.find(({ runs }) => runs.length === most);
  };
  const best = bestWhole(undefined);
  const pytorch = finalLosses.find(({ recipe }) => recipes[recipe]?.kind === 'pytorch');
  if (!best) return null;
  const rows = finalLosses.map(({ recipe, runs, finalLoss }): Row => {
    const against = (other: typeof best | undefined, share = 1) =>
      other && other.recipe !== recipe ? factor(runs, other.runs, share * budgetSec) : null;
    const counterpart = bestWhole(extrasOf(recipe));
    const equal = SHARES.map((share) => against(counterpart, share));
    return {
      recipe,
      seeds: runs.map(({ seed }) => seed).sort((a, b) => a - b),
      finalLoss,
      samples: sampleFigures(runs),
      factor: against(best),
      factorByFd: best.recipe === recipe ? null : factorByFd(runs, best.runs),
      equal: equal.every((at) => at !== null) ? equal : null,
      pytorch: against(pytorch),
    };
  });
  return { bed, budgetSec, baseline: best.recipe, rows };
}

const extrasOf = (name: RecipeName): string | undefined => (recipes[name] as Recipe).extras;

/** @param until processor seconds after which the others' loss is the goal */
function factor(runs: readonly Result[], others: readonly Result[], until: number): Factor | null {
  const goals = new Map(others.map((run) => [run.seed, pointAt(run, until)]));
  return factorTo(goals, runs, ({ heldOutLoss }, points) => timeTo(points, heldOutLoss));
}

/** Against the others' Fréchet distance at the end. */
function factorByFd(runs: readonly Result[], others: readonly Result[]): Factor | null {
  const measured = (some: readonly Result[]) =>
    some.filter(({ points }) => points.at(-1)?.samples?.fd !== undefined);
  const goals = new Map(measured(others).map((run) => [run.seed, run.points.at(-1)!]));
  return factorTo(goals, measured(runs), ({ samples }, points) => timeToFd(points, samples!.fd));
}

/** @param timeOf processor seconds until points are as good as another run's point, or null */
function factorTo(
  goals: ReadonlyMap<number, Point>,
  runs: readonly Result[],
  timeOf: (goal: Point, points: readonly Point[]) => number | null,
): Factor | null {
  const shared = runs.filter(({ seed }) => goals.has(seed));
  if (shared.length === 0) return null;
  const logs = shared.flatMap(({ seed, points }) => {
    const goal = goals.get(seed)!;
    const time = timeOf(goal, points);
    return time === null ? [] : [Math.log(goal.cpuSec / time)];
  });
  const value = logs.length ? mapInterval(interval(logs), Math.exp) : null;
  return { value, missed: shared.length - logs.length };
}

/** The first evaluation at or after a time, or the last one. */
const pointAt = ({ points }: Result, sec: number): Point =>
  points.find(({ cpuSec }) => cpuSec >= sec * 0.999) ?? points.at(-1)!;

function sampleFigures(runs: readonly Result[]): Readonly<Record<string, Interval>> {
  const names = [...new Set(runs.flatMap((run) => Object.keys(samplesOf(run) ?? {})))];
  const values = (name: string) => runs.flatMap((run) => samplesOf(run)?.[name] ?? []);
  return Object.fromEntries(names.map((name) => [name, interval(values(name))]));
}

/** Figures of samples at the end. */
const samplesOf = ({ points, samples }: Result) => points.at(-1)?.samples ?? samples;

function finalLoss({ points }: Result): number {
  return points.at(-1)!.heldOutLoss;
}

/** Processor seconds of the first evaluation at or below a loss, or null. */
export function timeTo(points: readonly Point[], loss: number): number | null {
  return points.find(({ heldOutLoss }) => heldOutLoss <= loss)?.cpuSec ?? null;
}

/**
 * Processor seconds until the Fréchet distance of samples is down to a value, or null. It is measured at few points, so the
 * time is taken between two, where the logarithm of the distance, linear in time, is that of the value; not before the first.
 */
export function timeToFd(points: readonly Point[], goal: number): number | null {
  const measured = points.flatMap(({ cpuSec, samples }) =>
    samples?.fd === undefined ? [] : [{ cpuSec, fd: samples.fd }],
  );
  const k = measured.findIndex(({ fd }) => fd <= goal);
  if (k < 0) return null;
  const [before, after] = [measured[k - 1], measured[k]];
  if (!before || after.fd <= 0) return after.cpuSec;
  const share = Math.log(before.fd / goal) / Math.log(before.fd / after.fd);
  return before.cpuSec + share * (after.cpuSec - before.cpuSec);
}

/** Quantiles 0.975 of Student's t with 1, 2, … degrees of freedom. */
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

export function interval(values: readonly number[]): Interval {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n === 1) return { mean, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY, n };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = (STUDENT[n - 2] ?? 1.96) * Math.sqrt(variance / n);
  return { mean, low: mean - half, high: mean + half, n };
}

function mapInterval({ mean, low, high, n }: Interval, fn: (value: number) => number): Interval {
  return { mean: fn(mean), low: fn(low), high: fn(high), n };
}
