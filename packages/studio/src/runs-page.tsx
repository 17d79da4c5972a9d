/** All runs: how they are, and which ones to look at. */
import { useState } from 'preact/hooks';
import { MAX_RUNS } from './curves';
import { dateTime, duration, figure } from './format';
import { hashOf, type Route } from './route';
import { type RunState, type RunSummary, resumeTraining, stopTraining } from './server';

interface Props {
  readonly runs: readonly RunSummary[];
  readonly folder: string;
  readonly route: Route;
  readonly select: (ids: readonly string[]) => void;
  readonly isTrainAllowed: boolean;
}

interface Column {
  readonly name: string;
  /** What is compared when the table is sorted by it. */
  readonly value: (run: RunSummary) => string | number | null;
  readonly isNumber?: boolean;
}

const COLUMNS = {
  run: { name: 'Run', value: ({ id }) => id },
  state: { name: 'State', value: ({ state }) => STATES.indexOf(state) },
  progress: { name: 'Progress', value: ({ kimg }) => kimg },
  eta: { name: 'Left', value: ({ etaSec }) => etaSec, isNumber: true },
  speed: { name: 'Images/s', value: ({ imagesPerSec }) => imagesPerSec, isNumber: true },
  loss: { name: 'Loss', value: ({ loss }) => loss, isNumber: true },
  heldOut: { name: 'Held-out', value: ({ heldOutLoss }) => heldOutLoss, isNumber: true },
  started: { name: 'Started', value: ({ startedAt }) => startedAt },
} as const satisfies Record<string, Column>;
type ColumnKey = keyof typeof COLUMNS;

const STATES: readonly RunState[] = ['running', 'failed', 'killed', 'interrupted', 'done', 'damaged'];

export function RunsPage({ runs, folder, route, select, isTrainAllowed }: Props) {
  const [text, setText] = useState('');
  const [states, setStates] = useState<ReadonlySet<RunState>>(new Set());
  const [order, setOrder] = useState<{ key: ColumnKey; isDown: boolean }>({ key: 'run', isDown: true });
  const selected = new Set(route.runs ?? []);
  const present = STATES.filter((state) => runs.some((run) => run.state === state));
  const words = text.toLowerCase().split(/\s+/);
  const isWanted = (run: RunSummary) => {
    const about = `${run.id} ${run.data} ${run.preset} ${run.state} ${run.problem ?? ''}`.toLowerCase();
    return (states.size === 0 || states.has(run.state)) && words.every((word) => about.includes(word));
  };
  const shown = sorted(runs.filter(isWanted), COLUMNS[order.key], order.isDown);
  const toggle = (id: string) => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    select([...next]);
  };
  if (runs.length === 0)
    return (
      <p class="empty">
        No runs in <code>{folder}</code> yet. Start one, and it appears here:
        <code class="block">npx patch-diffusion train --data ./photos --preset tiny --out {folder}</code>
      </p>
    );
  return (
    <>
      <form class="controls" aria-label="Which runs" onSubmit={(event) => event.preventDefault()}>
        <label class="wide">
          <span class="hidden">Filter</span>
          <input
            type="search"
            placeholder="Filter by name, data, preset, state"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <fieldset class="chips">
          <legend class="hidden">States</legend>
          {present.map((state) => (
            <button
              type="button"
              key={state}
              class={`chip state-${state}`}
              aria-pressed={states.has(state)}
              onClick={() => setStates(toggled(states, state))}
            >
              {state} {runs.filter((run) => run.state === state).length}
            </button>
          ))}
        </fieldset>
        <button
          type="button"
          disabled={shown.length === 0}
          onClick={() => select(shown.slice(0, MAX_RUNS).map(({ id }) => id))}
        >
          Select {shown.length > MAX_RUNS ? `the first ${MAX_RUNS}` : 'all'}
        </button>
        <button type="button" disabled={selected.size === 0} onClick={() => select([])}>
          Select none
        </button>
        {selected.size > 0 && (
          <a class="button primary" href={hashOf({ ...route, page: 'curves' })}>
            {selected.size === 1 ? 'Look at 1 run' : `Compare ${selected.size} runs`}
          </a>
        )}
      </form>
      <table class="runs card">
        <thead>
          <tr>
            <th scope="col">
              <span class="hidden">Selected</span>
            </th>
            {(Object.keys(COLUMNS) as ColumnKey[]).map((key) => (
              <Heading key={key} column={COLUMNS[key]} {...{ columnKey: key, order, setOrder }} />
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((run) => (
            <Row
              key={run.id}
              {...{ run, route, isTrainAllowed }}
              isSelected={selected.has(run.id)}
              toggle={toggle}
            />
          ))}
        </tbody>
      </table>
      {shown.length === 0 && <p class="empty">No run fits the filter.</p>}
    </>
  );
}

/** Stops a run, or continues one that ended before its time. */
function Control({ id, state }: RunSummary) {
  const [problem, setProblem] = useState<string | null>(null);
  const canResume = ['interrupted', 'killed', 'failed'].includes(state);
  if (state !== 'running' && !canResume) return null;
  const act = async () => {
    setProblem(null);
    try {
      await (canResume ? resumeTraining(id) : stopTraining(id));
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <>
      <button
        type="button"
        class="small"
        aria-label={`${canResume ? 'Resume' : 'Stop'} ${id}`}
        onClick={() => void act()}
      >
        {canResume ? 'Resume' : 'Stop'}
      </button>
      {problem && (
        <span class="sub problem" role="alert">
          {problem}
        </span>
      )}
    </>
  );
}

function toggled<T>(set: ReadonlySet<T>, item: T): Set<T> {
  const next = new Set(set);
  if (!next.delete(item)) next.add(item);
  return next;
}

/** Runs without a value come last in both directions. */
function sorted(runs: readonly RunSummary[], { value }: Column, isDown: boolean): RunSummary[] {
  return [...runs].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    const order = typeof a === 'string' ? a.localeCompare(String(b), 'en', { numeric: true }) : a - Number(b);
    return isDown ? -order : order;
  });
}

function Heading({
  column,
  columnKey,
  order,
  setOrder,
}: {
  readonly column: Column;
  readonly columnKey: ColumnKey;
  readonly order: { readonly key: ColumnKey; readonly isDown: boolean };
  readonly setOrder: (order: { key: ColumnKey; isDown: boolean }) => void;
}) {
  const isIt = order.key === columnKey;
  const sort = isIt ? (order.isDown ? 'descending' : 'ascending') : 'none';
  return (
    <th scope="col" aria-sort={sort} class={column.isNumber ? 'number' : ''}>
      <button
        type="button"
        onClick={() => setOrder({ key: columnKey, isDown: isIt ? !order.isDown : false })}
      >
        {column.name}
        <span aria-hidden="true">{isIt ? (order.isDown ? ' ↓' : ' ↑') : ''}</span>
      </button>
    </th>
  );
}

function Row({
  run,
  route,
  isSelected,
  toggle,
  isTrainAllowed,
}: {
  readonly run: RunSummary;
  readonly route: Route;
  readonly isSelected: boolean;
  readonly toggle: (id: string) => void;
  readonly isTrainAllowed: boolean;
}) {
  const { id, state, problem, data, preset, startedAt, kimg, totalKimg } = run;
  return (
    <tr class={isSelected ? 'selected' : ''}>
      <td>
        <input type="checkbox" checked={isSelected} aria-label={`Select ${id}`} onChange={() => toggle(id)} />
      </td>
      <th scope="row">
        <a href={hashOf({ ...route, page: 'curves', runs: [id] })}>{id}</a>
        <span class="sub">{[data, preset].filter(Boolean).join(' · ')}</span>
      </th>
      <td>
        <span class={`badge state-${state}`}>{state}</span>
        {problem && <span class="sub problem">{problem}</span>}
        {isTrainAllowed && <Control {...run} />}
      </td>
      <td data-name="Progress">
        {totalKimg > 0 && (
          <>
            <progress max={totalKimg} value={kimg} aria-label={`Progress of ${id}`} />
            <span class="sub">
              {figure(kimg)} of {figure(totalKimg)} kimg
            </span>
          </>
        )}
      </td>
      <td class="number" data-name="Left">
        {duration(run.etaSec)}
      </td>
      <td class="number" data-name="Images/s">
        {figure(run.imagesPerSec)}
      </td>
      <td class="number" data-name="Loss">
        {figure(run.loss)}
      </td>
      <td class="number" data-name="Held-out">
        {figure(run.heldOutLoss)}
      </td>
      <td data-name="Started">
        {dateTime(startedAt)}
        <span class="sub">{run.trainedSec === null ? '' : `trained ${duration(run.trainedSec)}`}</span>
      </td>
    </tr>
  );
}
