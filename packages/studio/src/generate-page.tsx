/** Draws images from a snapshot, on the server or in this page. */
import { useEffect, useState } from 'preact/hooks';
import { kimg as kimgText } from './format';
import { PageDrawing, type PageRequest, usePageModelEnd } from './page-drawing';
import {
  cancelDrawing,
  type Drawing,
  drawingPath,
  getSnapshot,
  type RunDetail,
  type RunSummary,
  startDrawing,
  useDetails,
} from './server';

interface Props {
  readonly runs: readonly RunSummary[];
  readonly drawings: readonly Drawing[];
  readonly isAllowed: boolean;
  readonly drawsInPage: boolean;
}

export function GeneratePage({ runs, drawings, isAllowed, drawsInPage }: Props) {
  const details = useDetails(runs);
  const [request, setRequest] = useState<(PageRequest & { readonly id: number }) | null>(null);
  const [isDrawing, setDrawing] = useState(false);
  usePageModelEnd();
  const drawHere = (wanted: PageRequest) => {
    setRequest({ ...wanted, id: (request?.id ?? 0) + 1 });
    setDrawing(true);
  };
  const choices = runs.flatMap(({ id }) => {
    const detail = details.get(id);
    return detail === undefined || detail.snapshots.length === 0 ? [] : [detail];
  });
  if (!isAllowed)
    return (
      <p class="empty">
        Drawing takes this machine's processor, so that it must be allowed. Start the studio with:
        <code class="block">npx patch-diffusion studio --allow-generate</code>
      </p>
    );
  if (choices.length === 0)
    return (
      <p class="empty">{runs.some(({ snapshots }) => snapshots > 0) ? 'Reading …' : 'No snapshot yet.'}</p>
    );
  return (
    <>
      <Form
        {...{ choices, drawsInPage, drawHere, isDrawing }}
        isBusy={drawings.some(({ state }) => state === 'running')}
      />
      <div class="sheets">
        {request && <PageDrawing key={request.id} request={request} onEnd={() => setDrawing(false)} />}
        {drawings.map((drawing) => (
          <Result key={drawing.id} {...drawing} />
        ))}
      </div>
    </>
  );
}

const START = { seeds: '0-15', steps: '', sampler: '', class: '', cfg: '', sChurn: '', ema: '' };
type Values = typeof START;

interface FormProps {
  readonly choices: readonly RunDetail[];
  /** The server draws. */
  readonly isBusy: boolean;
  /** This page draws. */
  readonly isDrawing: boolean;
  readonly drawsInPage: boolean;
  readonly drawHere: (request: PageRequest) => void;
}

function Form({ choices, isBusy, isDrawing, drawsInPage, drawHere }: FormProps) {
  const [isHere, setHere] = useState(false);
  const [chosen, setChosen] = useState('');
  const [values, setValues] = useState<Values>(START);
  const [problem, setProblem] = useState<string | null>(null);
  const all = choices.flatMap(({ id, snapshots, best, emaLengths }) =>
    snapshots
      .map(({ name, kimg }) => ({
        ...{ key: `${id}/${name}`, run: id, name, kimg, emaLengths, isBest: name === best },
      }))
      .reverse(),
  );
  const snapshot = all.find(({ key }) => key === chosen) ?? all[0];
  const about = useSnapshot(snapshot.run, snapshot.name);
  const field = (key: keyof Values) => ({
    value: values[key],
    onInput: (event: { currentTarget: { value: string } }) =>
      setValues({ ...values, [key]: event.currentTarget.value }),
  });
  const draw = async (event: Event) => {
    event.preventDefault();
    setProblem(null);
    // What a network without classes would refuse was chosen for another one.
    const { class: chosenClass, cfg, ema, ...rest } = values;
    const options = {
      ...rest,
      ...(about?.classes ? { class: chosenClass, cfg } : {}),
      ...(snapshot.emaLengths && !isHere ? { ema } : {}),
    };
    const request = { run: snapshot.run, snapshot: snapshot.name, options };
    if (isHere) return drawHere(request);
    try {
      await startDrawing(request);
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  return (
    <form class="card form" aria-label="What to draw" onSubmit={(event) => void draw(event)}>
      <label>
        Snapshot
        <select value={snapshot.key} onChange={(event) => setChosen(event.currentTarget.value)}>
          {all.map(({ key, run, kimg, isBest }) => (
            <option key={key} value={key}>
              {choices.length > 1 ? `${run}, ` : ''}
              {kimgText(kimg)}
              {isBest ? ' (best)' : ''}
            </option>
          ))}
        </select>
      </label>
      <label>
        Where
        <select value={String(isHere)} onChange={(event) => setHere(event.currentTarget.value === 'true')}>
          <option value="false">on the server</option>
          <option value="true" disabled={!drawsInPage}>
            in this page{drawsInPage ? '' : ' (npm install @patch-diffusion/browser)'}
          </option>
        </select>
      </label>
      <label>
        Seeds
        <input type="text" required {...field('seeds')} />
      </label>
      <label>
        Steps
        <input type="number" min="1" max="1000" placeholder="as recorded" {...field('steps')} />
      </label>
      <label>
        Sampler
        <select {...field('sampler')}>
          <option value="">as recorded</option>
          {about?.samplers.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Churn
        <input type="number" min="0" step="any" placeholder="as recorded" {...field('sChurn')} />
      </label>
      {about?.classes && (
        <>
          <label>
            Class
            <select {...field('class')}>
              <option value="">each at random</option>
              {about.classes.map((name, i) => (
                <option key={name} value={String(i)}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label>
            Guidance
            <input type="number" min="0" step="any" placeholder="none" {...field('cfg')} />
          </label>
        </>
      )}
      {snapshot.emaLengths && !isHere && (
        <label>
          EMA length
          <input
            type="range"
            min="0"
            max={snapshot.emaLengths.max}
            step={snapshot.emaLengths.min}
            value={values.ema || '0'}
            aria-valuetext={values.ema || 'of the snapshot'}
            onInput={({ currentTarget: { value } }) =>
              setValues({ ...values, ema: value === '0' ? '' : value })
            }
          />
          <output>{values.ema ? `${values.ema}, at the newest snapshot` : 'of the snapshot'}</output>
        </label>
      )}
      <button type="submit" class="primary" disabled={isHere ? isDrawing : isBusy}>
        Draw
      </button>
      {problem && (
        <p class="notice" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}

function useSnapshot(run: string, name: string) {
  const [about, setAbout] = useState<Awaited<ReturnType<typeof getSnapshot>> | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    // A snapshot that cannot be read is refused when it is drawn from, with the reason.
    getSnapshot(run, name, controller.signal).then(setAbout, () => setAbout(null));
    return () => controller.abort();
  }, [run, name]);
  return about;
}

function Result({ id, run, snapshot, options, state, share, problem }: Drawing) {
  const about = Object.entries(options).flatMap(([key, value]) => (value === '' ? [] : `${key} ${value}`));
  return (
    <figure class="card">
      {state === 'done' && <img src={drawingPath(id)} alt={`Images of ${run}, ${about.join(', ')}`} />}
      {state === 'running' && (
        <div class="drawing">
          <progress max="1" value={share} aria-label={`Progress of drawing ${id}`} />
          <button type="button" onClick={() => void cancelDrawing(id).catch(() => {})}>
            Cancel
          </button>
        </div>
      )}
      <figcaption>
        {state === 'failed' && <p class="problem">{problem}</p>}
        {state === 'cancelled' && <p>cancelled</p>}
        <strong>{run}</strong> · {snapshot.replace(/\.safetensors$/, '')} · {about.join(', ')}
      </figcaption>
    </figure>
  );
}
