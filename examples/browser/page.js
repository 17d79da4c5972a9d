import { load } from './npm/@patch-diffusion/browser/dist/web/index.js';

const [form, status, main] = ['form', '[role=status]', 'main'].map((name) => document.querySelector(name));
const show = (text) => {
  status.textContent = text;
};

const onProgress = (bytes) => show(`${(bytes / 1e6).toFixed(1)} MB of the model`);
const model = await load('model.onnx', { onProgress })
  // A model that was trained on latents needs its decoder.
  .catch((error) => {
    if (error.code !== 'NO_DECODER') throw error;
    return load('model.onnx', { onProgress, decoder: 'model-decoder.onnx' });
  })
  .catch((error) => show(error.message));

let drawing = new AbortController();
form.stop.addEventListener('click', () => drawing.abort());
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  drawing.abort();
  drawing = new AbortController();
  const { signal } = drawing;
  const [seed, count, steps] = ['seed', 'count', 'steps'].map((name) => form[name].valueAsNumber);
  main.replaceChildren();
  try {
    const started = performance.now();
    await model.sample({
      ...{ seeds: Array.from({ length: count }, (_, i) => seed + i), steps, signal },
      onStep: ({ done, total, step, numSteps }) =>
        show(`picture ${done + 1} of ${total}, step ${step} of ${numSteps}`),
      onPicture: (picture) => main.append(picture.toCanvas()),
    });
    show(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  } catch (error) {
    if (!signal.aborted) show(error.message);
  }
});

if (model) show(`${model.info.name}, ${model.info.backend}, ${model.info.threads} threads`);
