/** The plots of an evaluation: curves and figures of all subjects, and the nearest training images of each. */
import { readEvaluations } from '../run/evaluations.js';
import { readStats, type Stat } from '../run/stats.js';
import { COLOURS, chartPng, type Key, type Line, type Mark, type Panel } from './chart.js';
import { type EvaluationReport, FIGURES, type FigureName } from './report.js';

/** What the figures are called in tables and plots. */
export const TITLES: Record<FigureName, string> = {
  heldOutLoss: 'held-out loss',
  trainingLoss: 'training loss',
  lossGap: 'loss gap at σ = 0.2',
  slicedWasserstein: 'sliced Wasserstein × 1000',
  memorised: 'memorised share',
  avatarValidity: 'valid avatars',
  avatarCoverage: 'avatar parts seen',
  avatarNovelty: 'new avatars',
  avatarCopies: 'copied avatars',
  avatarColourError: 'avatar colour error',
  fd: 'FD',
  kid: 'KID',
  precision: 'precision',
  recall: 'recall',
  density: 'density',
  coverage: 'coverage',
  fld: 'FLD',
  fldGap: 'FLD gap',
};

/** All curves and figures in one picture. @returns PNG bytes */
export async function plotsPng(reports: readonly EvaluationReport[]): Promise<Buffer> {
  const colourOf = (k: number) => COLOURS[k % COLOURS.length];
  const histories = await Promise.all(reports.map(history));
  const panels = [
    byNoiseLevel(reports, colourOf),
    reports.length === 1 ? byPatchSize(reports[0]) : null,
    overTime(histories, colourOf),
    ...FIGURES.map((name) => figurePanel(name, reports, colourOf)),
  ].filter((panel) => panel !== null);
  const keys = reports.map(({ name }, k): Key => ({ label: `${k + 1}: ${name}`, colour: colourOf(k) }));
  if (reports.some(({ curves }) => curves?.training))
    keys.push({ label: 'the same on training images', colour: '#444444', dashed: true });
  const hasFloor = reports.some(({ metrics }) => Object.values(metrics).some(({ floor }) => floor !== null));
  if (hasFloor) keys.push({ label: 'what real images score', colour: '#888888', dashed: true });
  return chartPng(panels, keys);
}

function byNoiseLevel(reports: readonly EvaluationReport[], colourOf: (k: number) => string): Panel | null {
  const lines = reports.flatMap(({ curves }, k): Line[] => {
    if (!curves) return [];
    const line = { x: curves.sigmas, y: curves.judged, colour: colourOf(k) };
    return curves.training ? [line, { ...line, y: curves.training, dashed: true }] : [line];
  });
  return lines.length ? { title: 'loss by noise level', xLabel: 'σ', logX: true, lines } : null;
}

function byPatchSize({ curves }: EvaluationReport): Panel | null {
  const sizes = Object.entries(curves?.patches ?? {});
  if (!curves || sizes.length === 0) return null;
  const all = [...sizes, ['whole', curves.judged] as const];
  const lines = all.map(
    ([, y], k): Line => ({ x: curves.sigmas, y, colour: COLOURS[(k + 1) % COLOURS.length] }),
  );
  const names = all.map(([size], k) => `${size} ${COLOUR_NAMES[(k + 1) % COLOURS.length]}`);
  return { title: `loss by patch size: ${names.join(', ')}`, xLabel: 'σ', logX: true, lines };
}

/** Of {@link COLOURS}. */
const COLOUR_NAMES = ['blue', 'red', 'green', 'pink', 'orange', 'light blue', 'black'];

interface History {
  readonly kimg: number[];
  readonly loss: number[];
}

/** Held-out losses of a run's evaluations; where there is one only, those of its ticks. */
async function history({ kind, path }: EvaluationReport): Promise<History | null> {
  if (kind !== 'run') return null;
  const evaluations = await readEvaluations(path);
  const points = evaluations.flatMap(({ nimg, metrics }) =>
    nimg === null || !metrics.heldOutLoss ? [] : [[nimg / 1000, metrics.heldOutLoss.value] as const],
  );
  const ofTicks = (await readStats(path)).flatMap((line) => {
    const [kimg, loss] = [
      line['Progress/kimg'] as Stat | undefined,
      line['Loss/held_out'] as Stat | undefined,
    ];
    return kimg && loss ? [[kimg.mean, loss.mean] as const] : [];
  });
  const chosen = points.length > 1 ? points.sort(([a], [b]) => a - b) : ofTicks;
  return chosen.length ? { kimg: chosen.map(([k]) => k), loss: chosen.map(([, loss]) => loss) } : null;
}

function overTime(histories: readonly (History | null)[], colourOf: (k: number) => string): Panel | null {
  const lines = histories.flatMap((found, k): Line[] =>
    found ? [{ x: found.kimg, y: found.loss, colour: colourOf(k), dots: found.kimg.length < 30 }] : [],
  );
  return lines.length ? { title: 'held-out loss over the run', xLabel: 'kimg', lines } : null;
}

function figurePanel(
  name: FigureName,
  reports: readonly EvaluationReport[],
  colourOf: (k: number) => string,
): Panel | null {
  const marks = reports.flatMap(({ metrics }, k): Mark[] => {
    const figure = metrics[name];
    return figure ? [{ x: k, ...figure, colour: colourOf(k) }] : [];
  });
  if (marks.length === 0) return null;
  const names = reports.map((_, k) => String(k + 1));
  const n = Math.max(...reports.map(({ metrics }) => metrics[name]?.n ?? 0));
  return { title: TITLES[name], xLabel: `n = ${n.toLocaleString('en-US')}`, marks, names };
}
