/** The figures of an evaluation as text: a row for each figure, a column for each run, snapshot or folder. */
import type { Figure } from './figure.js';
import { TITLES } from './plots.js';
import { type EvaluationReport, FIGURES } from './report.js';

/** `0.2311 [0.2250, 0.2377]  n 256  real 0.0123` */
function cell(figure: Figure | undefined): string {
  if (figure === undefined) return '–';
  const { value, low, high, n, floor, floorN } = figure;
  const real = floor === null ? '' : `  real ${short(floor)}${floorN === undefined ? '' : ` (n ${floorN})`}`;
  return `${short(value)} [${short(low)}, ${short(high)}]  n ${n}${real}`;
}

function short(value: number): string {
  if (value === 0) return '0';
  const digits = Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 1 ? 3 : 4;
  return value.toFixed(digits);
}

/** Aligned columns; the interval of each figure is the 95 % one. */
export function evaluationTable(reports: readonly EvaluationReport[]): string {
  const shown = FIGURES.filter((name) => reports.some(({ metrics }) => metrics[name]));
  const rows = [
    ['', ...reports.map(({ name }) => name)],
    ...shown.map((name) => [titleOf(name, reports), ...reports.map(({ metrics }) => cell(metrics[name]))]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((text, k) => text.padEnd(widths[k]))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** Samples from which on the Fréchet distance of Inception features is the FID of papers. */
const PUBLISHED_COUNT = 50_000;

/** The Fréchet distance has the name FID only with the features that FID is defined on. */
function titleOf(name: (typeof FIGURES)[number], reports: readonly EvaluationReport[]): string {
  const measured = reports.filter(({ metrics }) => metrics[name]);
  const kinds = new Set(measured.map(({ features }) => features?.kind));
  if (name !== 'fd' || kinds.size !== 1) return TITLES[name];
  if (kinds.has('classes')) return 'FD (classifier)';
  return measured.every(({ metrics }) => metrics.fd!.n >= PUBLISHED_COUNT) ? 'FID-50k' : 'FID';
}
