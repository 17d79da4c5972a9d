/** One chart, by uPlot: hover shows values, dragging zooms, a double click shows all again. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { type ChartX, type Line, type Range, smoothed, xText } from './curves';
import { figure } from './format';
import { colour, onThemeChange } from './theme';

const HEIGHT = 230;

export interface ChartProps {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly x: ChartX;
  readonly logX: boolean;
  readonly logY: boolean;
  /** Weight of the moving average; 0: none. */
  readonly smoothing: number;
  readonly range: Range;
  readonly onRange: (range: Range) => void;
}

export function Chart(props: ChartProps) {
  const { title, lines, x, logX, logY, smoothing, range } = props;
  const place = useRef<HTMLDivElement>(null);
  const values = useRef<HTMLUListElement>(null);
  const at = useRef<HTMLSpanElement>(null);
  const plot = useRef<uPlot | null>(null);
  // The plot's listeners are made once and see the newest properties.
  const latest = useRef(props);
  latest.current = props;

  const data = useMemo(() => toData(lines, smoothing), [lines, smoothing]);
  const isSmooth = smoothing > 0;
  const shape = JSON.stringify([x, logX, logY, isSmooth, lines.map((l) => [l.label, l.colour, l.dash])]);

  // Charts that are far down the page are drawn once they come near: the first ones appear sooner.
  const isNear = useIsNear(place);

  /** The figures beside the names: those under the cursor, or the last ones. */
  const showValues = (columns: readonly Column[], idx: number | null | undefined): void => {
    const xs = columns[0] as readonly number[];
    if (at.current) {
      const isOver = idx !== null && idx !== undefined && xs[idx] !== undefined;
      at.current.textContent = isOver ? xText(latest.current.x, xs[idx]) : '';
    }
    latest.current.lines.forEach((_, i) => {
      const cell = values.current?.children[i]?.querySelector('output');
      if (cell) cell.textContent = figure(valueNear(columns[i + 1], idx));
    });
  };

  useEffect(() => {
    const { current: element } = place;
    if (element === null || !isNear) return;
    const u = new uPlot(
      options(latest, element.clientWidth, isSmooth, (u) => showValues(u.data as Column[], u.cursor.idx)),
      data as uPlot.AlignedData,
      element,
    );
    plot.current = u;
    const observer = new ResizeObserver(() => u.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    const stop = onThemeChange(() => u.redraw(false, true));
    return () => {
      observer.disconnect();
      stop();
      u.destroy();
      plot.current = null;
    };
  }, [shape, isNear]);

  useEffect(() => {
    const u = plot.current;
    showValues(data, u?.cursor.idx);
    if (u === null) return;
    u.batch(() => {
      u.setData(data as uPlot.AlignedData, true);
      if (range) u.setScale('x', { min: range[0], max: range[1] });
    });
  }, [data, range, shape, isNear]);

  return (
    <section class="chart card" aria-label={title}>
      <header>
        <h2>{title}</h2>
        <span class="at" ref={at} />
      </header>
      <div
        class="plot"
        ref={place}
        role="img"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: as above
        tabIndex={0}
        aria-label={`${title}; arrow keys show values, plus and minus zoom, 0 shows all`}
        onKeyDown={(event) => plot.current && onKey(event, plot.current, latest.current)}
      />
      <ul class="legend" ref={values}>
        {lines.map((line) => (
          <li key={line.label}>
            <svg class="stroke" viewBox="0 0 24 4" aria-hidden="true">
              <line
                x1="0"
                y1="2"
                x2="24"
                y2="2"
                stroke={line.colour}
                stroke-width="3"
                stroke-dasharray={line.dash.join(' ')}
              />
            </svg>
            <span class="name">{line.label}</span>
            <output />
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Whether an element is, or has been, in sight or little below. */
function useIsNear(place: { readonly current: Element | null }): boolean {
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    if (place.current === null) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
        setNear(true);
        observer.disconnect();
      },
      { rootMargin: '300px' },
    );
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return isNear;
}

type Column = readonly (number | null | undefined)[];

/** All lines over the union of their x values: the smooth ones first, then, faint, the ones as measured. */
function toData(lines: readonly Line[], smoothing: number): Column[] {
  if (lines.length === 0) return [[]];
  const tables = lines.map(({ xs, ys }) => (smoothing > 0 ? [xs, smoothed(ys, smoothing), ys] : [xs, ys]));
  const joined = uPlot.join(tables as unknown as uPlot.AlignedData[]) as Column[];
  const [xs, ...columns] = joined;
  if (smoothing === 0) return joined;
  return [xs, ...columns.filter((_, i) => i % 2 === 0), ...columns.filter((_, i) => i % 2 === 1)];
}

/** The value at an index or, where the line has none there, the one before it; without an index the last one. */
function valueNear(column: Column | undefined, index: number | null | undefined): number | null {
  if (column === undefined) return null;
  for (let i = index ?? column.length - 1; i >= 0; i--) {
    const value = column[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

function options(
  latest: { readonly current: ChartProps },
  width: number,
  isSmooth: boolean,
  onCursor: (u: uPlot) => void,
): uPlot.Options {
  const { lines, x, logX, logY } = latest.current;
  const axis: uPlot.Axis = {
    stroke: () => colour('--muted'),
    grid: { stroke: () => colour('--grid'), width: 1 },
    ticks: { stroke: () => colour('--grid'), width: 1, size: 4 },
    font: '11px system-ui, sans-serif',
  };
  const line = ({ label, colour: stroke, dash }: Line, alpha: number, lineWidth: number): uPlot.Series => ({
    ...{ label, stroke, width: lineWidth, dash: [...dash], alpha, spanGaps: true },
    points: { show: (u, i) => (u.data[i] as Column).filter((v) => v != null).length < 3 },
  });
  return {
    ...{ width, height: HEIGHT, legend: { show: false }, padding: [8, 16, 0, 0] },
    scales: { x: { time: x === 'clock', distr: logX ? 3 : 1 }, y: { distr: logY ? 3 : 1 } },
    axes: [
      { ...axis, size: 28, ...(x === 'clock' ? {} : { values: (_, all) => all.map((v) => tick(x, v)) }) },
      { ...axis, size: 54, values: (_, all) => all.map((v) => (v === null ? '' : figure(v))) },
    ],
    series: [
      {},
      ...lines.map((one) => line(one, 1, 1.75)),
      ...(isSmooth ? lines.map((one) => line(one, 0.3, 1)) : []),
    ],
    cursor: {
      // Charts over the same quantity show the values at the same place.
      sync: { key: x === 'sigma' ? 'noise' : 'curves', scales: ['x', null] },
      drag: { x: true, y: false, setScale: false },
      points: { size: 6 },
      bind: {
        dblclick: () => () => {
          latest.current.onRange(null);
          return null;
        },
      },
    },
    hooks: {
      setCursor: [onCursor],
      setSelect: [
        (u) => {
          const { left, width: selected } = u.select;
          if (selected < 4) return;
          latest.current.onRange([u.posToVal(left, 'x'), u.posToVal(left + selected, 'x')]);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

function tick(x: ChartX, value: number | null): string {
  if (value === null) return '';
  if (x !== 'time') return figure(value);
  if (value < 600) return `${figure(value)} s`;
  return value < 36_000 ? `${figure(value / 60)} m` : `${figure(value / 3600)} h`;
}

function onKey(event: KeyboardEvent, u: uPlot, { range, onRange }: ChartProps): void {
  const xs = u.data[0];
  const { min = xs[0], max = xs[xs.length - 1] } = u.scales.x;
  const middle = ((min ?? 0) + (max ?? 0)) / 2;
  const zoom = (factor: number) =>
    onRange([middle - (middle - (min ?? 0)) * factor, middle + ((max ?? 0) - middle) * factor]);
  const move = (by: number) => {
    const index = Math.max(0, Math.min(xs.length - 1, (u.cursor.idx ?? (by > 0 ? -1 : xs.length)) + by));
    if (xs[index] !== undefined) u.setCursor({ left: u.valToPos(xs[index], 'x'), top: 10 });
  };
  const actions: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => move(event.shiftKey ? -10 : -1),
    ArrowRight: () => move(event.shiftKey ? 10 : 1),
    '+': () => zoom(0.5),
    '-': () => range && zoom(2),
    '0': () => onRange(null),
  };
  const action = actions[event.key];
  if (action === undefined) return;
  event.preventDefault();
  action();
}
