/** From columns of statistics to the lines of charts. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { duration, figure } from './format';
import { type Columns, getSeries, type RunSeries, type RunSummary, type XAxis } from './server';

/** Part of the x axis that is shown; null: all. */
export type Range = readonly [number, number] | null;

export interface Line {
  readonly label: string;
  readonly colour: string;
  /** Lengths of strokes and gaps; empty: solid. */
  readonly dash: readonly number[];
  readonly xs: readonly number[];
  readonly ys: readonly number[];
}

/** A chart: keys of the statistics that share a y axis. */
export interface ChartPlan {
  readonly title: string;
  readonly keys: readonly string[];
  readonly isMain: boolean;
  /** Losses scatter; what is set or measured otherwise is drawn as it is. */
  readonly isNoisy: boolean;
}

/** Curves at once; more cannot be told apart. */
export const MAX_RUNS = 16;

const COLOURS = [
  ...['#3b82f6', '#f59e0b', '#10b981', '#ef4444', '#a855f7', '#06b6d4', '#ec4899', '#84cc16'],
  ...['#6366f1', '#f97316', '#14b8a6', '#e11d48', '#8b5cf6', '#0ea5e9', '#d946ef', '#65a30d'],
];
const DASHES: readonly (readonly number[])[] = [[], [6, 3], [2, 3], [10, 3, 2, 3], [1, 2], [12, 4]];

export const colourOf = (index: number): string => COLOURS[index % COLOURS.length];

export const X_NAMES: Readonly<Record<XAxis, string>> = {
  kimg: 'thousands of images',
  step: 'updates',
  time: 'training time',
  clock: 'date and time',
};

const X_KEYS: Readonly<Record<XAxis, string>> = {
  kimg: 'Progress/kimg',
  step: 'Progress/step',
  time: 'Timing/total_sec',
  clock: 'timestamp',
};

/** What charts are drawn over: the training, or the noise level. */
export type ChartX = XAxis | 'sigma';

export function xText(x: ChartX, value: number): string {
  if (x === 'sigma') return `σ = ${figure(value)}`;
  if (x === 'time') return duration(value);
  if (x === 'clock') return new Date(value * 1000).toLocaleString();
  return `${figure(value)} ${x === 'kimg' ? 'kimg' : 'updates'}`;
}

/** Keys that are drawn over or say what the others do. */
const NOT_DRAWN = new Set([
  'timestamp',
  'Progress/tick',
  'Progress/kimg',
  'Progress/step',
  'Timing/total_sec',
]);

const TITLES: Readonly<Record<string, string>> = {
  'Loss/loss': 'Loss',
  'Loss/held_out': 'Held-out loss',
  'Progress/lr': 'Learning rate',
  'Progress/grad_norm': 'Gradient norm',
  'Progress/loss_scale': 'Loss scale',
  'Timing/images_per_sec': 'Images per second',
  'Timing/sec_per_tick': 'Seconds per tick',
  'Timing/sec_per_kimg': 'Seconds per kimg',
  'Timing/maintenance_sec': 'Seconds for samples, saving and measuring',
  'Evaluation/heldOutLoss': 'Evaluation: held-out loss',
  'Evaluation/trainingLoss': 'Evaluation: loss on training images',
  'Evaluation/lossGap': 'Evaluation: held-out loss above training loss',
  'Evaluation/slicedWasserstein': 'Evaluation: sliced Wasserstein distance',
  'Evaluation/memorised': 'Evaluation: share of copies',
  'Evaluation/fd': 'Evaluation: Fréchet distance',
  'Evaluation/kid': 'Evaluation: kernel distance',
};

/** Charts for the keys that there are; unknown ones get a chart of their own. */
export function planCharts(keys: Iterable<string>): ChartPlan[] {
  const all = [...new Set(keys)].filter((key) => !NOT_DRAWN.has(key));
  const patches = all.filter((key) => /^Loss\/p\d/.test(key)).sort(byNumber);
  const levels = all.filter((key) => /sigma/i.test(key)).sort(byNumber);
  const memory = all.filter((key) => /^Resources\/.*mem/.test(key));
  const evaluations = all.filter((key) => key.startsWith('Evaluation/'));
  const grouped = new Set([...patches, ...levels, ...memory, ...evaluations]);
  const chart = (title: string, some: readonly string[], isMain: boolean): ChartPlan[] => {
    const isNoisy = some.some((key) => /^Loss\/(?!held_out)|grad_norm/.test(key));
    return some.length === 0 ? [] : [{ title, keys: some, isMain, isNoisy }];
  };
  const one = (key: string, isMain: boolean) =>
    all.includes(key) ? chart(TITLES[key] ?? key.replace('/', ': '), [key], isMain) : [];
  const main = ['Loss/loss', 'Loss/held_out', 'Progress/grad_norm', 'Progress/lr', 'Timing/images_per_sec'];
  const rest = all.filter((key) => !main.includes(key) && !grouped.has(key));
  return [
    ...one('Loss/loss', true),
    ...chart('Loss by patch side (px)', patches, true),
    ...one('Loss/held_out', true),
    ...chart('Loss by noise level', levels, true),
    ...evaluations.flatMap((key) => one(key, true)),
    ...main.slice(2).flatMap((key) => one(key, true)),
    ...chart('Memory (GiB)', memory, true),
    ...rest.flatMap((key) => one(key, false)),
  ];
}

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true });

export interface ShownRun {
  readonly run: RunSummary;
  readonly colour: string;
  readonly series: RunSeries;
}

/** One run: a colour for each key. Several: a colour for each run, a dash for each key. */
export function linesOf(
  plan: ChartPlan,
  runs: readonly ShownRun[],
  { x, logX, logY }: { x: XAxis; logX: boolean; logY: boolean },
): Line[] {
  return runs.flatMap(({ run, colour, series: { columns, evaluations } }) => {
    const tableOf = (key: string): Columns => (key in evaluations ? evaluations : columns);
    const present = plan.keys.filter((key) => key in tableOf(key));
    return present.map((key) => {
      const table = tableOf(key);
      const [xs, ys] = points(table[X_KEYS[x]] ?? [], table[key], logX, logY);
      const index = plan.keys.indexOf(key);
      const isAlone = runs.length === 1 && plan.keys.length > 1;
      const name = shortName(key);
      const label = runs.length === 1 ? name : plan.keys.length === 1 ? run.id : `${run.id} ${name}`;
      return {
        ...{ label, xs, ys },
        colour: isAlone ? colourOf(index) : colour,
        dash: isAlone ? [] : DASHES[index % DASHES.length],
      };
    });
  });
}

const shortName = (key: string): string =>
  key
    .replace(/^Loss\/p(?=\d)/, '')
    .replace(/^[^/]*\//, '')
    .replaceAll('_', ' ');

type Column = Columns[string];

/** Points with both values; on a log axis those that it can show. A value that comes back (a resumed run) is kept once. */
function points(xs: Column, ys: Column, logX: boolean, logY: boolean): [number[], number[]] {
  const outX: number[] = [];
  const outY: number[] = [];
  for (let i = 0; i < xs.length; i++) {
    const [x, y] = [xs[i], ys[i]];
    if (x === null || y === null || x === undefined || y === undefined) continue;
    if ((logX && x <= 0) || (logY && y <= 0) || x <= (outX.at(-1) ?? -Infinity)) continue;
    outX.push(x);
    outY.push(y);
  }
  return [outX, outY];
}

/** Exponential moving average, corrected for its start. @param weight of what was before, in [0, 1) */
export function smoothed(ys: readonly number[], weight: number): number[] {
  let sum = 0;
  let share = 0;
  return ys.map((y) => {
    sum = weight * sum + (1 - weight) * y;
    share = weight * share + 1 - weight;
    return sum / share;
  });
}

/** Lines of its statistics that each of so many runs is drawn from. */
export const linesFor = (runs: number): number =>
  Math.max(100, Math.min(1000, Math.round(4000 / Math.max(1, runs))));

/** A run that trains reports often; its curves are not drawn anew more often than this. */
const PAUSE_MS = 1500;

export interface LiveSeries {
  readonly series: ReadonlyMap<string, RunSeries>;
  readonly problems: ReadonlyMap<string, string>;
}

/** Statistics of the runs, thinned for the part that is shown, and read again when they grow. */
export function useSeries(runs: readonly RunSummary[], x: XAxis, range: Range): LiveSeries {
  const [live, setLive] = useState<LiveSeries>({ series: new Map(), problems: new Map() });
  const readAt = useRef(new Map<string, number>());
  const part: Record<string, string> =
    range === null ? {} : { x, from: String(range[0]), to: String(range[1]) };
  const query = { lines: String(linesFor(runs.length)), ...part };
  const wanted = runs.map(({ id, revision }) => `${id} ${revision}`).join();
  useEffect(() => {
    const controller = new AbortController();
    const read = async (id: string): Promise<void> => {
      readAt.current.set(id, Date.now());
      try {
        const series = await getSeries(id, query, controller.signal);
        setLive((before) => ({ ...before, series: new Map(before.series).set(id, series) }));
      } catch (error) {
        if (controller.signal.aborted) return;
        const message = (error as Error).message;
        setLive((before) => ({ ...before, problems: new Map(before.problems).set(id, message) }));
      }
    };
    const timers = runs.map(({ id }) => {
      const since = Date.now() - (readAt.current.get(id) ?? 0);
      const isGrowing = live.series.has(id) && range === null;
      return setTimeout(() => void read(id), isGrowing ? Math.max(0, PAUSE_MS - since) : 0);
    });
    return () => {
      controller.abort();
      for (const timer of timers) clearTimeout(timer);
    };
  }, [wanted, JSON.stringify(query)]);
  return live;
}
