/** Sample sheets of the selected runs side by side, at the same point of their trainings. */
import { useEffect, useState } from 'preact/hooks';
import { kimg as kimgText } from './format';
import {
  nearestPath,
  type RunDetail,
  type RunSummary,
  type StampedFile,
  sheetPath,
  useDetails,
} from './server';

const PLAY_MS = 700;
const ZOOMS = { fit: 'fit the window', '1': '1×', '2': '2×', '4': '4×' } as const;

export function SamplesPage({ runs }: { readonly runs: readonly RunSummary[] }) {
  const details = useDetails(runs);
  const shown = runs.flatMap((run) => {
    const detail = details.get(run.id);
    return detail === undefined || detail.sheets.length === 0 ? [] : [{ run, detail }];
  });
  const stops = [...new Set(shown.flatMap(({ detail }) => detail.sheets.map(({ kimg }) => kimg)))];
  stops.sort((a, b) => a - b);
  const last = stops.length - 1;
  // Null: the newest, also when there is a newer one.
  const [place, setPlace] = useState<number | null>(null);
  const [zoom, setZoom] = useState<keyof typeof ZOOMS>('fit');
  const [isPlaying, setPlaying] = useState(false);
  const index = Math.min(place ?? last, last);

  useEffect(() => {
    if (!isPlaying) return;
    const timer = setInterval(
      () => setPlace((before) => (before === null || before >= last ? 0 : before + 1)),
      PLAY_MS,
    );
    return () => clearInterval(timer);
  }, [isPlaying, last]);

  if (stops.length === 0)
    return (
      <p class="empty">
        {runs.some(({ sheets }) => sheets > 0)
          ? 'Reading …'
          : 'No sample sheet yet. A run draws one per tick, unless --sample-ticks says otherwise.'}
      </p>
    );
  return (
    <>
      <form class="controls" aria-label="Which sheets" onSubmit={(event) => event.preventDefault()}>
        <button type="button" aria-pressed={isPlaying} onClick={() => setPlaying(!isPlaying)}>
          {isPlaying ? 'Pause' : 'Play'}
        </button>
        <label class="wide">
          Training
          <input
            type="range"
            min="0"
            max={last}
            value={index}
            aria-valuetext={kimgText(stops[index])}
            onInput={(event) => {
              const to = Number(event.currentTarget.value);
              setPlace(to === last ? null : to);
              setPlaying(false);
            }}
          />
          <output>{kimgText(stops[index])}</output>
        </label>
        <label>
          Size
          <select value={zoom} onChange={(event) => setZoom(event.currentTarget.value as keyof typeof ZOOMS)}>
            {Object.entries(ZOOMS).map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
      </form>
      <div class={zoom === 'fit' ? 'sheets' : 'sheets as-is'}>
        {shown.map(({ run, detail }) => (
          <Sheet
            key={run.id}
            {...{ run, detail, kimg: stops[index], next: stops[index + 1] }}
            scale={zoom === 'fit' ? null : Number(zoom)}
          />
        ))}
      </div>
    </>
  );
}

/** The newest sheet of a run at some point. */
function sheetAt({ sheets }: RunDetail, kimg: number): StampedFile | undefined {
  return sheets.findLast((sheet) => sheet.kimg <= kimg);
}

function Sheet({
  run,
  detail,
  kimg,
  next,
  scale,
}: {
  readonly run: RunSummary;
  readonly detail: RunDetail;
  readonly kimg: number;
  readonly next: number | undefined;
  /** Pixels of the screen per pixel of the sheet; null: as wide as there is room. */
  readonly scale: number | null;
}) {
  const [size, setSize] = useState({ width: 0, height: 0 });
  const sheet = sheetAt(detail, kimg);
  const following = next === undefined ? undefined : sheetAt(detail, next);
  useEffect(() => {
    // Read ahead, so that the slider does not flicker.
    if (following) new Image().src = sheetPath(run.id, following.name);
  }, [run.id, following]);
  if (sheet === undefined)
    return (
      <figure class="card">
        <figcaption>
          <strong>{run.id}</strong> has no sheet before {kimgText(detail.sheets[0].kimg)}.
        </figcaption>
      </figure>
    );
  return (
    <figure class="card">
      <div class="scroll">
        <img
          src={sheetPath(run.id, sheet.name)}
          alt={`Samples of ${run.id} after ${kimgText(sheet.kimg)}`}
          style={scale === null || size.width === 0 ? {} : { width: `${size.width * scale}px` }}
          onLoad={({ currentTarget: { naturalWidth: width, naturalHeight: height } }) =>
            setSize({ width, height })
          }
        />
      </div>
      <figcaption>
        <strong>{run.id}</strong> · {kimgText(sheet.kimg)} · sheet {detail.sheets.indexOf(sheet) + 1} of{' '}
        {detail.sheets.length}
        {isBest(detail, sheet) && <b> · best snapshot</b>}
      </figcaption>
      <Nearest {...{ run, detail, kimg: sheet.kimg }} />
    </figure>
  );
}

/** Whether the snapshot of the lowest held-out loss was written at the same tick. */
const isBest = ({ best, snapshots }: RunDetail, { kimg }: StampedFile): boolean =>
  snapshots.some((snapshot) => snapshot.name === best && snapshot.kimg === kimg);

/** The samples that were nearest to training images at the last evaluation before. */
function Nearest({ run, detail, kimg }: { run: RunSummary; detail: RunDetail; kimg: number }) {
  const sheet = detail.nearest.findLast((one) => one.kimg <= kimg);
  if (sheet === undefined) return null;
  return (
    <details class="nearest">
      <summary>Nearest training images, evaluated at {kimgText(sheet.kimg)}</summary>
      <img
        loading="lazy"
        src={nearestPath(run.id, sheet.name)}
        alt={`Samples of ${run.id} above the training images that are nearest to them`}
      />
    </details>
  );
}
