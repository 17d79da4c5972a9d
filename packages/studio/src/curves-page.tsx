/** Curves of the selected runs. */
import { useMemo, useState } from 'preact/hooks';
import { Chart } from './chart';
import {
  type ChartPlan,
  colourOf,
  linesOf,
  planCharts,
  type Range,
  useSeries,
  X_NAMES,
  xText,
} from './curves';
import { NoiseCharts } from './noise-charts';
import type { Route } from './route';
import type { RunSummary, XAxis } from './server';

interface Props {
  readonly runs: readonly RunSummary[];
  readonly route: Route;
  readonly change: (part: Partial<Route>, replace?: boolean) => void;
}

export function CurvesPage({ runs, route, change }: Props) {
  const { x, smoothing, logX, logY } = route;
  const [range, setRange] = useState<Range>(null);
  const { series, problems } = useSeries(runs, x, range);
  const shown = useMemo(
    () =>
      runs.flatMap((run, i) => {
        const its = series.get(run.id);
        return its === undefined ? [] : [{ run, colour: colourOf(i), series: its }];
      }),
    [runs, series],
  );
  const keys = [
    ...new Set(
      shown.flatMap(({ series: { columns, evaluations } }) => Object.keys({ ...columns, ...evaluations })),
    ),
  ];
  const keyText = keys.join();
  const plans = useMemo(() => planCharts(keys), [keyText]);
  const damaged = shown.filter(({ series: { damaged: count } }) => count > 0);
  const chart = (plan: ChartPlan) => (
    <PlannedChart key={plan.title} {...{ plan, shown, route, range }} onRange={setRange} />
  );
  const isLoading = shown.length < runs.length && problems.size === 0;
  return (
    <>
      <form class="controls" aria-label="How curves are drawn" onSubmit={(event) => event.preventDefault()}>
        <label>
          Over
          <select
            value={x}
            onChange={(event) => {
              setRange(null);
              change({ x: event.currentTarget.value as XAxis }, true);
            }}
          >
            {Object.entries(X_NAMES).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Smoothing
          <input
            type="range"
            min="0"
            max="0.99"
            step="0.01"
            value={smoothing}
            onInput={(event) => change({ smoothing: Number(event.currentTarget.value) }, true)}
          />
          <output>{smoothing.toFixed(2)}</output>
        </label>
        <Check label="log x" isOn={logX} onChange={(isOn) => change({ logX: isOn }, true)} />
        <Check label="log y" isOn={logY} onChange={(isOn) => change({ logY: isOn }, true)} />
        {range && (
          <button type="button" onClick={() => setRange(null)}>
            Show all (now {xText(x, range[0])} to {xText(x, range[1])})
          </button>
        )}
      </form>
      {[...problems].map(([id, problem]) => (
        <p class="notice" key={id} role="alert">
          {id}: {problem}
        </p>
      ))}
      {damaged.map(({ run, series: { damaged: count } }) => (
        <p class="notice" key={run.id}>
          {run.id}: {count} {count === 1 ? 'line' : 'lines'} of stats.jsonl could not be read and{' '}
          {count === 1 ? 'is' : 'are'} left out.
        </p>
      ))}
      {plans.length === 0 && (
        <p class="empty">
          {isLoading ? 'Reading …' : 'Nothing has been reported yet; curves appear with the first tick.'}
        </p>
      )}
      <div class="charts">
        {plans.filter(({ isMain }) => isMain).map(chart)}
        <NoiseCharts shown={shown} />
      </div>
      {plans.some(({ isMain }) => !isMain) && <More>{plans.filter(({ isMain }) => !isMain).map(chart)}</More>}
      {shown.some(({ series: { thinned } }) => thinned) && (
        <p class="hint">
          Long runs are drawn from evenly spaced lines of their statistics; zooming in shows all of them.
        </p>
      )}
    </>
  );
}

/** Lines are made anew only when their data are: a chart that did not change is not drawn. */
function PlannedChart({
  plan,
  shown,
  route,
  range,
  onRange,
}: {
  readonly plan: ChartPlan;
  readonly shown: Parameters<typeof linesOf>[1];
  readonly route: Route;
  readonly range: Range;
  readonly onRange: (range: Range) => void;
}) {
  const { x, logX, logY, smoothing } = route;
  const lines = useMemo(() => linesOf(plan, shown, { x, logX, logY }), [plan, shown, x, logX, logY]);
  return (
    <Chart
      {...{ title: plan.title, lines, x, logX, logY, range, onRange }}
      smoothing={plan.isNoisy ? smoothing : 0}
    />
  );
}

/** Charts are drawn once they are asked for. */
function More({ children }: { readonly children: preact.ComponentChildren }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>More curves</summary>
      {isOpen && <div class="charts">{children}</div>}
    </details>
  );
}

function Check({
  label,
  isOn,
  onChange,
}: {
  readonly label: string;
  readonly isOn: boolean;
  readonly onChange: (isOn: boolean) => void;
}) {
  return (
    <label>
      <input type="checkbox" checked={isOn} onChange={(event) => onChange(event.currentTarget.checked)} />
      {label}
    </label>
  );
}
