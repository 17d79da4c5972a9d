/** Curves that the address names are asked for at once, while the list of runs is still on its way. */
import { linesFor, MAX_RUNS } from './curves';
import { parseRoute } from './route';
import { askSeriesEarly } from './server';

export function askForCurves(): void {
  const { page, runs } = parseRoute(location.hash);
  if (page !== 'curves' || runs === null) return;
  const some = runs.slice(0, MAX_RUNS);
  for (const id of some) askSeriesEarly(id, { lines: String(linesFor(some.length)) });
}
