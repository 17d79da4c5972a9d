/** The frame of all pages: which one, which runs, and whether the server answers. */
import { useEffect, useState } from 'preact/hooks';
import { MAX_RUNS } from './curves';
import { CurvesPage } from './curves-page';
import { DataPage } from './data-page';
import { GeneratePage } from './generate-page';
import { OptionsPage, Swatch } from './options-page';
import { hashOf, PAGES, type Page, type Route, useRoute } from './route';
import { RunsPage } from './runs-page';
import { SamplesPage } from './samples-page';
import { getInfo, type RunSummary, type StudioInfo, useRuns } from './server';
import { useTheme } from './theme';
import { TrainPage } from './train-page';

const PAGE_NAMES: Readonly<Record<Page, string>> = {
  runs: 'Runs',
  curves: 'Curves',
  samples: 'Samples',
  data: 'Data',
  options: 'Options',
  generate: 'Generate',
  train: 'Train',
};

export function App() {
  const [route, change] = useRoute();
  const { runs, problem, drawings, trainings, isConnected } = useRuns();
  const [info, setInfo] = useState<StudioInfo>({
    folder: '',
    version: '',
    allowGenerate: false,
    allowTrain: false,
    drawsInPage: false,
  });
  const [theme, turnTheme] = useTheme();
  useEffect(() => void getInfo().then(setInfo, () => {}), []);
  const { page } = route;
  useEffect(() => {
    document.title = `${PAGE_NAMES[page]} · Patch Diffusion studio`;
  }, [page]);

  const selected = selectedRuns(route, runs ?? []);
  return (
    <>
      <header class="top">
        <a class="brand" href={hashOf({ ...route, page: 'runs' })}>
          <img src="/icon.svg" alt="" width="26" height="26" />
          <span>
            Patch Diffusion <b>studio</b>
          </span>
        </a>
        <nav aria-label="Pages">
          {PAGES.map((one) => (
            <a
              key={one}
              href={hashOf({ ...route, page: one })}
              aria-current={one === page ? 'page' : undefined}
            >
              {PAGE_NAMES[one]}
            </a>
          ))}
        </nav>
        <span class={isConnected ? 'live' : 'live off'} role="status">
          {isConnected ? 'live' : runs === null ? 'connecting' : 'server gone'}
        </span>
        <button type="button" class="quiet" onClick={turnTheme} title="Colours of the page">
          theme: {theme}
        </button>
      </header>
      <main>
        <h1 class="hidden">{PAGE_NAMES[page]}</h1>
        {problem && (
          <p class="notice" role="alert">
            {problem}
          </p>
        )}
        {runs === null ? (
          <p class="empty">Reading the runs …</p>
        ) : page === 'runs' ? (
          <RunsPage
            {...{ runs, route, folder: info.folder, isTrainAllowed: info.allowTrain }}
            select={(ids) => change({ runs: ids.slice(0, MAX_RUNS) }, true)}
          />
        ) : page === 'train' ? (
          <TrainPage {...{ trainings, isAllowed: info.allowTrain }} />
        ) : (
          <>
            <Selection {...{ runs, selected }} select={(ids) => change({ runs: ids }, true)} />
            {selected.length === 0 ? (
              <p class="empty">
                No run is selected. <a href={hashOf({ ...route, page: 'runs' })}>Choose one</a>.
              </p>
            ) : page === 'curves' ? (
              <CurvesPage {...{ runs: selected, route, change }} />
            ) : page === 'samples' ? (
              <SamplesPage runs={selected} />
            ) : page === 'data' ? (
              <DataPage runs={selected} />
            ) : page === 'options' ? (
              <OptionsPage runs={selected} />
            ) : (
              <GeneratePage
                {...{ runs: selected, drawings, isAllowed: info.allowGenerate }}
                drawsInPage={info.drawsInPage}
              />
            )}
          </>
        )}
      </main>
    </>
  );
}

/** Those that were selected; before anything was, the newest that trains, or else the newest. */
function selectedRuns({ runs: ids }: Route, runs: readonly RunSummary[]): RunSummary[] {
  if (ids === null) return [runs.find(({ state }) => state === 'running') ?? runs[0]].filter(Boolean);
  return ids.slice(0, MAX_RUNS).flatMap((id) => runs.find((run) => run.id === id) ?? []);
}

function Selection({
  runs,
  selected,
  select,
}: {
  readonly runs: readonly RunSummary[];
  readonly selected: readonly RunSummary[];
  readonly select: (ids: readonly string[]) => void;
}) {
  const ids = selected.map(({ id }) => id);
  const others = runs.filter(({ id }) => !ids.includes(id));
  return (
    <div class="selection">
      <ul>
        {selected.map(({ id, state }, i) => (
          <li key={id} class="chip">
            <Swatch index={i} /> {id} <span class={`badge state-${state}`}>{state}</span>
            <button
              type="button"
              class="quiet"
              aria-label={`Leave out ${id}`}
              onClick={() => select(ids.filter((one) => one !== id))}
            >
              ×
            </button>
          </li>
        ))}
      </ul>
      {others.length > 0 && ids.length < MAX_RUNS && (
        <label>
          <span class="hidden">Add a run</span>
          <select value="" onChange={(event) => select([...ids, event.currentTarget.value])}>
            <option value="" disabled>
              Compare with …
            </option>
            {others.map(({ id }) => (
              <option key={id} value={id}>
                {id}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  );
}
