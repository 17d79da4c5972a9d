/** Curves of held-out loss against processor time: the mean over seeds, and the range of the seeds as a band. */
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { RecipeName } from './recipes.js';
import type { Result } from './results.js';

/** Points of time at which the curves of the seeds are compared. */
const STEPS = 25;

/** @returns an SVG file */
export async function curvesSvg(
  results: readonly Result[],
  bed: string,
  budgetSec: number,
  recipes: readonly RecipeName[],
): Promise<string> {
  const here = results.filter(
    (result) => result.bed === bed && result.budgetSec === budgetSec && result.status === 'done',
  );
  const values = here.flatMap(({ recipe, points }) =>
    Array.from({ length: STEPS }, (_, k) => {
      const sec = ((k + 1) / STEPS) * budgetSec;
      return { recipe, minutes: sec / 60, loss: lossAt(points, sec) };
    }).filter(({ loss }) => loss !== null),
  );
  const losses = values.map(({ loss }) => loss!);
  const axes = {
    type: 'quantitative' as const,
    scale: { type: 'log' as const, domain: [Math.min(...losses), quantile(losses, 0.96)], clamp: true },
    axis: { title: 'held-out loss', tickCount: 8 },
  };
  const spec: TopLevelSpec = {
    width: 640,
    height: 360,
    background: 'white',
    data: { values },
    encoding: {
      x: { field: 'minutes', type: 'quantitative', axis: { title: 'processor minutes of training' } },
      color: { field: 'recipe', type: 'nominal', sort: [...recipes], legend: { title: null } },
    },
    layer: [
      {
        mark: { type: 'area', opacity: 0.15 },
        encoding: {
          y: { field: 'loss', aggregate: 'min', ...axes },
          y2: { field: 'loss', aggregate: 'max' },
        },
      },
      { mark: 'line', encoding: { y: { field: 'loss', aggregate: 'mean', ...axes } } },
    ],
  };
  return new View(parse(compile(spec).spec), { renderer: 'none' }).toSVG();
}

/** The loss at a time, between the evaluations before and after it; null before the first. */
function lossAt(points: Result['points'], sec: number): number | null {
  const k = points.findIndex(({ cpuSec }) => cpuSec >= sec);
  if (k < 0) return points.at(-1)?.heldOutLoss ?? null;
  if (k === 0) return null;
  const [before, after] = [points[k - 1], points[k]];
  const share = (sec - before.cpuSec) / (after.cpuSec - before.cpuSec);
  return before.heldOutLoss + share * (after.heldOutLoss - before.heldOutLoss);
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))];
}
