/** Draws with a model that the user chooses; the model never leaves the browser. */
import { load, type Model, ModelError } from '@patch-diffusion/browser';

const PICTURES = 8;

const file = element('file', HTMLInputElement);
const classes = element('class', HTMLSelectElement);
const draw = element('draw', HTMLButtonElement);
const stop = element('stop', HTMLButtonElement);
const progress = element('progress', HTMLProgressElement);
const status = element('status', HTMLElement);
const pictures = element('pictures', HTMLElement);

let model: Model | null = null;
let drawing = new AbortController();

file.addEventListener('change', () => attempt(open));
draw.addEventListener('click', () => attempt(sample));
stop.addEventListener('click', () => drawing.abort());

async function open(): Promise<void> {
  const chosen = file.files?.[0];
  if (!chosen) return;
  draw.disabled = true;
  await model?.dispose();
  model = await load(chosen);
  const { name, width, height, backend, threads, kimg, labelDim, classNames } = model.info;
  const names = classNames ?? Array.from({ length: labelDim }, (_, index) => `class ${index}`);
  classes.replaceChildren(
    new Option('any', ''),
    ...names.map((text, index) => new Option(text, String(index))),
  );
  status.textContent = `${name}, ${width}×${height}, ${kimg} kimg; ${backend}, ${threads} threads`;
  draw.disabled = false;
}

async function sample(): Promise<void> {
  if (!model) return;
  drawing = new AbortController();
  stop.disabled = false;
  pictures.replaceChildren();
  const firstSeed = Math.floor(Math.random() * 1e6);
  await model
    .sample({
      seeds: Array.from({ length: PICTURES }, (_, index) => firstSeed + index),
      classIndex: classes.value === '' ? null : Number(classes.value),
      batch: 2,
      signal: drawing.signal,
      onStep: ({ done, total, step, numSteps }) => {
        progress.max = total;
        progress.value = done + (2 * step) / numSteps;
      },
      onPicture: (picture) => {
        const canvas = picture.toCanvas();
        canvas.title = `seed ${picture.seed}`;
        pictures.append(canvas);
      },
    })
    .finally(() => {
      stop.disabled = true;
    });
}

async function attempt(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (drawing.signal.aborted) return;
    if (!(error instanceof ModelError)) throw error;
    status.textContent = error.message;
  }
}

function element<T extends HTMLElement>(id: string, type: abstract new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`the page has no ${id}`);
}
