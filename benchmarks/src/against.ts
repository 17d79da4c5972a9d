/** Comparison of a measurement with an earlier one: what became slower by more than the noise. */
import type { Figure } from './measurement.js';
import { spread } from './timing.js';

/** How a figure moved. */
export interface Change {
  readonly name: string;
  readonly unit: string;
  readonly before: number;
  readonly after: number;
  /** After over before, turned so that above 1 is better. */
  readonly ratio: number;
  /** Share that the ratio moves by itself. */
  readonly noise: number;
  readonly verdict: 'better' | 'worse' | 'same';
}

/** Even the steadiest figure moves by this share between two runs. */
const LEAST_NOISE = 0.02;

/** Changes of the figures that both measurements have, in the order of the new one. */
export function compareFigures(before: readonly Figure[], after: readonly Figure[]): Change[] {
  const earlier = new Map(before.map((figure) => [figure.name, figure]));
  return after.flatMap((figure) => {
    const old = earlier.get(figure.name);
    return old && old.unit === figure.unit ? [change(old, figure)] : [];
  });
}

function change(old: Figure, figure: Figure): Change {
  const [before, after] = [spread(old.values), spread(figure.values)];
  const higher = after.median / before.median;
  const ratio = figure.better === 'higher' ? higher : 1 / higher;
  const noise = Math.max(LEAST_NOISE, Math.hypot(relativeSpread(before), relativeSpread(after)));
  // Slower and quicker are judged alike: by the factor.
  const verdict = ratio > 1 + noise ? 'better' : ratio < 1 / (1 + noise) ? 'worse' : 'same';
  const { name, unit } = figure;
  return { name, unit, before: before.median, after: after.median, ratio, noise, verdict };
}

/** Width of the middle half, as a share of the median. */
function relativeSpread({ median, q1, q3 }: ReturnType<typeof spread>): number {
  return (q3 - q1) / median;
}
