/** Images that this page draws by itself, and how they came out of the noise. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { closePageModel, openPageModel, type PictureData, type SampleOptions } from './page-model';
import { seedsIn } from './seeds';

/** What is drawn: values as in the form, where empty means the default. */
export interface PageRequest {
  readonly run: string;
  readonly snapshot: string;
  readonly options: Readonly<Record<string, string>>;
}

/** Images at a time: each has a frame per step, and a page has less memory than a server. */
const MAX_SEEDS = 64;
const BATCH = 4;

interface Progress {
  readonly what: string;
  /** 0 … 1; null: not known. */
  readonly share: number | null;
}

/** Draws as soon as it is shown; `onEnd` is told when it is done, failed or cancelled. */
export function PageDrawing({
  request,
  onEnd,
}: {
  readonly request: PageRequest;
  readonly onEnd: () => void;
}) {
  const [progress, setProgress] = useState<Progress | null>({ what: 'Beginning', share: null });
  const [problem, setProblem] = useState<string | null>(null);
  const [pictures, setPictures] = useState<readonly PictureData[]>([]);
  /** By seed, one for each step. */
  const [frames, setFrames] = useState<ReadonlyMap<number, readonly PictureData[]>>(new Map());
  const controller = useRef(new AbortController());
  const { run, snapshot, options } = request;

  useEffect(() => {
    const { signal } = controller.current;
    const onPhase = (what: string, share: number | null) => setProgress({ what, share });
    const draw = async () => {
      const wanted = sampleOptions(options);
      const model = await openPageModel(run, snapshot, { signal, onPhase });
      const all = new Map<number, PictureData[]>();
      await model.sample({
        ...wanted,
        ...{ batch: BATCH, estimates: true, signal },
        onStep: ({ step, numSteps, done, total, estimates }) => {
          const batch = Math.min(BATCH, total - done);
          onPhase(
            `Step ${step} of ${numSteps}, image ${done + 1} of ${total}`,
            (done + (batch * step) / numSteps) / total,
          );
          for (const frame of estimates ?? []) all.set(frame.seed, [...(all.get(frame.seed) ?? []), frame]);
        },
        onPicture: (picture) => {
          setPictures((before) => [...before, picture]);
          setFrames(new Map(all));
        },
      });
    };
    draw()
      .catch((error: Error) => setProblem(signal.aborted ? 'cancelled' : error.message))
      .finally(() => {
        setProgress(null);
        onEnd();
      });
    return () => controller.current.abort(new Error('the page was left'));
  }, []);

  const about = Object.entries(options).flatMap(([key, value]) => (value === '' ? [] : `${key} ${value}`));
  return (
    <figure class="card" aria-label="Drawn in this page">
      {progress && (
        <div class="drawing">
          <span role="status">{progress.what}</span>
          <progress
            max="1"
            aria-label="Progress of drawing in this page"
            {...(progress.share === null ? {} : { value: progress.share })}
          />
          <button type="button" onClick={() => controller.current.abort(new Error('cancelled'))}>
            Cancel
          </button>
        </div>
      )}
      {pictures.length > 0 && <Pictures {...{ pictures, frames }} />}
      <figcaption>
        {problem && <p class={problem === 'cancelled' ? '' : 'problem'}>{problem}</p>}
        <strong>{run}</strong> · {snapshot.replace(/\.safetensors$/, '')} · in this page · {about.join(', ')}
      </figcaption>
    </figure>
  );
}

/** The pictures, and a slider over the steps that led to them. */
function Pictures({
  pictures,
  frames,
}: {
  readonly pictures: readonly PictureData[];
  readonly frames: ReadonlyMap<number, readonly PictureData[]>;
}) {
  // Null: the end, which is the picture.
  const [step, setStep] = useState<number | null>(null);
  const last = Math.max(...pictures.map(({ seed }) => frames.get(seed)?.length ?? 0));
  const shown = pictures.map((picture) =>
    step === null ? picture : (frames.get(picture.seed)?.[step - 1] ?? picture),
  );
  return (
    <>
      <ul class="pictures">
        {shown.map((picture) => (
          <Canvas key={picture.seed} picture={picture} />
        ))}
      </ul>
      <label class="steps">
        After step
        <input
          type="range"
          min="1"
          max={last}
          value={step ?? last}
          aria-valuetext={
            step === null ? `${last}, the images` : `${step} of ${last}: what the network takes them for`
          }
          onInput={({ currentTarget: { valueAsNumber: value } }) => setStep(value === last ? null : value)}
        />
        <output>
          {step ?? last} of {last}
        </output>
      </label>
    </>
  );
}

function Canvas({ picture }: { readonly picture: PictureData }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { width, height, rgba, seed } = picture;
  useEffect(() => {
    canvas.current?.getContext('2d')?.putImageData(new ImageData(rgba, width, height), 0, 0);
  }, [rgba]);
  return (
    <li>
      <canvas ref={canvas} role="img" aria-label={`Image of seed ${seed}`} {...{ width, height }} />
    </li>
  );
}

/** The form's values as the package takes them. @throws Error where the seeds are no list */
function sampleOptions(options: Readonly<Record<string, string>>): SampleOptions {
  const number = (key: string) => (options[key] ? Number(options[key]) : undefined);
  const steps = number('steps');
  const sChurn = number('sChurn');
  const sampler = options.sampler as SampleOptions['sampler'] | '';
  return {
    seeds: seedsIn(options.seeds, MAX_SEEDS),
    ...(steps === undefined ? {} : { steps }),
    ...(sChurn === undefined ? {} : { sChurn }),
    ...(sampler ? { sampler } : {}),
    classIndex: number('class') ?? null,
    guidance: number('cfg') ?? null,
  };
}

/** Frees the model when drawing in the page is left. */
export function usePageModelEnd(): void {
  useEffect(() => () => void closePageModel(), []);
}
