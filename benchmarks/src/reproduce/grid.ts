/** Which runs there are: recipes × seeds × beds × budgets, the ones that matter most first. */
import type { RecipeName } from './recipes.js';
import { type Result, type RunKey, runName } from './results.js';

export interface Grid {
  readonly beds: readonly string[];
  readonly recipes: readonly RecipeName[];
  readonly seeds: readonly number[];
  readonly budgetSec: number;
}

/** All runs of the grid in their order: seed by seed, so that a grid that is cut short compares like with like. */
export function runsOf({ beds, recipes, seeds, budgetSec }: Grid): RunKey[] {
  return seeds.flatMap((seed) =>
    beds.flatMap((bed) => recipes.map((recipe) => ({ bed, recipe, seed, budgetSec }))),
  );
}

/** Those that no result of this machine is there for. */
export function openRuns(runs: readonly RunKey[], results: readonly Result[], cpu: string): RunKey[] {
  const done = new Set(results.filter((result) => result.cpu === cpu).map(runName));
  return runs.filter((run) => !done.has(runName(run)));
}
