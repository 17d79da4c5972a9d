/** What the selected runs train on: images with patches as the schedule cuts them now, classes, sizes, what is left out. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { coordinateGrid } from '../../patch-diffusion/src/patches/coordinate-grid';
import { figure } from './format';
import { type DrawnPatch, dataImagePath, getData, type RunDataView, type RunSummary } from './server';

/** Opacity of what lies outside of a patch, of 255. */
const VEIL = 165;

export function DataPage({ runs }: { readonly runs: readonly RunSummary[] }) {
  const [seed, setSeed] = useState(0);
  const [isCoordinates, setCoordinates] = useState(false);
  return (
    <>
      <form class="controls" aria-label="What is shown" onSubmit={(event) => event.preventDefault()}>
        <label>
          Seed
          <input
            type="number"
            min="0"
            max={2 ** 32 - 1}
            value={seed}
            onInput={({ currentTarget: { valueAsNumber: value } }) =>
              value >= 0 && setSeed(Math.floor(value))
            }
          />
        </label>
        <button type="button" onClick={() => setSeed(seed + 1)}>
          Draw others
        </button>
        <label>
          <input
            type="checkbox"
            checked={isCoordinates}
            onChange={(event) => setCoordinates(event.currentTarget.checked)}
          />
          coordinates as colours
        </label>
        {isCoordinates && (
          <span class="hint">
            Red grows to the right, blue downwards: what the network is told of each pixel's place.
          </span>
        )}
      </form>
      {runs.map((run) => (
        <RunData key={run.id} {...{ run, seed, isCoordinates }} />
      ))}
    </>
  );
}

interface Shown {
  readonly run: RunSummary;
  readonly seed: number;
  readonly isCoordinates: boolean;
}

function RunData({ run, seed, isCoordinates }: Shown) {
  const [view, setView] = useState<RunDataView | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  // The schedule may change with the progress; a percent is fine enough.
  const percent = Math.floor((100 * run.kimg) / Math.max(run.kimg, run.totalKimg, 1));
  useEffect(() => {
    const controller = new AbortController();
    getData(run.id, seed, controller.signal).then(
      (found) => {
        setView(found);
        setProblem(null);
      },
      (error: Error) => controller.signal.aborted || setProblem(error.message),
    );
    return () => controller.abort();
  }, [run.id, seed, percent]);
  return (
    <section class="data" aria-label={`Data of ${run.id}`}>
      <h2>{run.id}</h2>
      {problem !== null ? (
        <p class="notice" role="alert">
          {problem}
        </p>
      ) : view === null ? (
        <p class="empty">Looking at the images …</p>
      ) : (
        <Contents {...{ run, view, isCoordinates }} />
      )}
    </section>
  );
}

const sideText = ({ width, height }: { width: number; height: number }) =>
  width === height ? `${width}` : `${width}×${height}`;
const percentText = (share: number) => `${figure(100 * share)} %`;
const COLOURS: Readonly<Record<number, string>> = { 1: 'grey', 3: 'RGB', 4: 'RGB and opacity' };

function Contents({ run, view, isCoordinates }: Omit<Shown, 'seed'> & { readonly view: RunDataView }) {
  const { images, heldOut, hasMirrored, channels, patchSizes, schedule, progress } = view;
  return (
    <>
      <p class="hint">
        <code>{view.path}</code> · {figure(images)} images{hasMirrored ? ', and mirrored' : ''}
        {heldOut > 0 ? `, ${figure(heldOut)} held out` : ''} · {sideText(view)} px, {COLOURS[channels]}
      </p>
      <p>
        Schedule <b>{schedule}</b>
        {schedule === 'annealed' || schedule === 'progressive' ? `, ${percentText(progress)} done` : ''}:{' '}
        {patchSizes.map((size) => `${sideText(size)} px ${percentText(size.probability)}`).join(', ')} of the
        micro-batches
      </p>
      <ul class="tiles">
        {view.patches.map((patch, i) => (
          <Tile key={i} id={run.id} {...{ view, patch, isCoordinates }} />
        ))}
      </ul>
      <div class="tables">
        {view.classes && (
          <Counts
            run={run.id}
            title="Classes"
            rows={view.classes.map(({ name, count }) => [name, count])}
            more={heldOut > 0 ? 'Those held out are counted, too.' : ''}
          />
        )}
        <Counts
          run={run.id}
          title="Sizes of the files"
          rows={view.sizes.map((size) => [`${sideText(size)} px`, size.count])}
        />
        <Skipped {...view} run={run.id} />
      </div>
    </>
  );
}

/** An image with one patch. */
function Tile({
  id,
  view,
  patch,
  isCoordinates,
}: {
  readonly id: string;
  readonly view: RunDataView;
  readonly patch: DrawnPatch;
  readonly isCoordinates: boolean;
}) {
  const [problem, setProblem] = useState<string | null>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const { width, height } = view;
  useEffect(() => {
    const canvas = over.current;
    if (canvas) paint(canvas, view, patch, isCoordinates);
  }, [view, patch, isCoordinates]);
  const source = dataImagePath(id, patch.image);
  const explain = () =>
    fetch(source).then(
      async (answer) => setProblem(((await answer.json()) as { error?: string }).error ?? 'not readable'),
      (error: Error) => setProblem(error.message),
    );
  const what = `${sideText(patch)} px at ${patch.col}, ${patch.row}`;
  return (
    <li>
      <div class="tile" title={`${patch.name}: ${what}`}>
        <img
          src={source}
          class={patch.isMirrored ? 'mirrored' : ''}
          alt={`${patch.name}${patch.isMirrored ? ', mirrored' : ''}; patch of ${what}`}
          {...{ width, height }}
          onLoad={() => setProblem(null)}
          onError={() => void explain()}
        />
        <canvas ref={over} />
      </div>
      <span class="sub">
        {patch.label === null ? '' : `${patch.label} · `}
        {sideText(patch)} px
      </span>
      {problem && <span class="sub problem">{problem}</span>}
    </li>
  );
}

/** A veil over what is outside of the patch; inside, the picture, or where each pixel is as a colour. */
function paint(
  canvas: HTMLCanvasElement,
  image: RunDataView,
  patch: DrawnPatch,
  isCoordinates: boolean,
): void {
  const { width, height } = image;
  Object.assign(canvas, { width, height });
  const pixels = new ImageData(width, height);
  for (let p = 3; p < pixels.data.length; p += 4) pixels.data[p] = VEIL;
  const window = { width: patch.width, height: patch.height, xStart: patch.col, yStart: patch.row };
  const grid = coordinateGrid(window, image);
  const count = patch.width * patch.height;
  for (let i = 0; i < count; i++) {
    const [x, y] = [i % patch.width, Math.floor(i / patch.width)];
    const to = 4 * ((patch.row + y) * width + patch.col + x);
    const colour = [(grid[i] + 1) * 127.5, 96, (grid[count + i] + 1) * 127.5, 255];
    pixels.data.set(isCoordinates ? colour : [0, 0, 0, 0], to);
  }
  canvas.getContext('2d')?.putImageData(pixels, 0, 0);
}

function Counts({
  run,
  title,
  rows,
  more = '',
}: {
  readonly run: string;
  readonly title: string;
  readonly rows: readonly (readonly [string, number])[];
  readonly more?: string;
}) {
  const most = Math.max(1, ...rows.map(([, count]) => count));
  return (
    <div class="card">
      <h3>{title}</h3>
      <Rows name={`${title} of ${run}`}>
        <table>
          <tbody>
            {rows.map(([name, count]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>
                  <meter max={most} value={count} aria-label={name} />
                </td>
                <td class="number">{figure(count)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Rows>
      {more && <p class="hint">{more}</p>}
    </div>
  );
}

function Skipped({ run, skipped, skippedCount }: RunDataView & { readonly run: string }) {
  return (
    <div class="card">
      <h3>Left out: {figure(skippedCount)} files</h3>
      {skippedCount === 0 ? (
        <p class="hint">Every file can be used, as far as its header tells.</p>
      ) : (
        <Rows name={`Files of ${run} that are left out`}>
          <table>
            <tbody>
              {skipped.map(({ file, reason }) => (
                <tr key={file}>
                  <th scope="row">{file}</th>
                  <td>{reason}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </Rows>
      )}
      {skippedCount > skipped.length && <p class="hint">The first {skipped.length} of them.</p>}
    </div>
  );
}

/** Rows that may need to be scrolled, also by the keyboard. */
function Rows({ name, children }: { readonly name: string; readonly children: preact.ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must have the focus
    <section class="scroll rows" aria-label={name} tabIndex={0}>
      {children}
    </section>
  );
}
