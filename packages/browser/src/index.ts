/**
 * Sampling models of Patch Diffusion in a web page: `load` an ONNX file that `patch-diffusion export --format onnx` wrote,
 * then `sample`.
 */
import { absolute } from './address.js';
import { Engine, type SampleHooks } from './engine.js';
import { fetchModel } from './fetch-model.js';
import type { LoadOptions, ModelInfo, ModelSource, SampleProgress, SampleSettings } from './options.js';
import { Picture } from './picture.js';
import { RemoteEngine } from './remote-engine.js';

export { ModelError, type ModelErrorCode } from './errors.js';
export type {
  Backend,
  GuidanceSettings,
  Label,
  LoadOptions,
  ModelInfo,
  ModelSource,
  SampleProgress,
  SamplerSettings,
  SampleSettings,
} from './options.js';
export type { Picture, PictureData } from './picture.js';

export interface SampleOptions extends SampleSettings {
  /** Called after each solver step. */
  readonly onStep?: (progress: SampleProgress) => void;
  /** Called with each picture as it is finished, in the order of the seeds. */
  readonly onPicture?: (picture: Picture) => void;
  /** Ends the sampling before the next step; `sample` then throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A loaded model. */
export interface Model {
  readonly info: ModelInfo;
  /**
   * Samples one picture per seed. A seed gives the same picture as `patch-diffusion generate --noise portable`.
   * Samplings that are asked for at the same time run one after the other.
   * @throws ModelError for an option that the network does not have, or where memory is short
   * @example
   * ```ts
   * const [picture] = await model.sample({ seeds: [17], steps: 10, classIndex: 3, guidance: 1.5 });
   * document.body.append(picture.toCanvas());
   * ```
   */
  sample(options?: SampleOptions): Promise<Picture[]>;
  /** Frees all memory. A sampling that runs ends with an error. */
  dispose(): Promise<void>;
}

/**
 * Loads a model.
 * @param source its address, a file that the user chose, or its bytes
 * @throws ModelError for a file that is missing or of another kind, or where nothing can compute it
 * @example
 * ```ts
 * const model = await load('photos.onnx', { onProgress: (bytes, total) => console.log(bytes, total) });
 * console.log(model.info.backend, model.info.classNames);
 * ```
 */
export async function load(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  const { backend = 'auto', threads = null, worker = true, decoder: decoderSource } = options;
  const runtimeUrl = options.runtimeUrl === undefined ? null : folderUrl(options.runtimeUrl);
  const file = await fetchModel(source, options);
  const decoder = decoderSource === undefined ? null : await fetchModel(decoderSource, options);
  const runtime = { backend, threads, runtimeUrl };
  // Bytes that the caller gave stay the caller's.
  const ownsFiles = ![source, decoderSource].some(
    (given) => given instanceof ArrayBuffer || given instanceof Uint8Array,
  );
  const engine = worker
    ? await RemoteEngine.open(worker === true ? startWorker() : worker(), file, decoder, {
        options: runtime,
        ownsFiles,
      })
    : await Engine.open(file, decoder, runtime);
  if (options.signal?.aborted) {
    await engine.dispose();
    options.signal.throwIfAborted();
  }
  return {
    info: engine.info,
    sample: (sampling = {}) => samplePictures(engine, sampling),
    dispose: () => engine.dispose(),
  };
}

async function samplePictures(engine: Engine | RemoteEngine, options: SampleOptions): Promise<Picture[]> {
  const { onStep, onPicture, signal, ...settings } = options;
  const pictures: Picture[] = [];
  const hooks: SampleHooks = {
    onStep: (progress) => onStep?.(progress),
    onPicture: (data) => {
      const picture = new Picture(data);
      pictures.push(picture);
      onPicture?.(picture);
    },
    signal: signal ?? null,
  };
  await engine.sample(settings, hooks);
  return pictures;
}

function startWorker(): Worker {
  try {
    // Bundlers know this expression as a whole.
    return new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  } catch (error) {
    // Workers must be of the page's own origin; one that only imports the other may be.
    if (!(error instanceof DOMException && error.name === 'SecurityError')) throw error;
    const script = `import ${JSON.stringify(import.meta.url.replace(/[^/]*$/, 'worker.js'))};`;
    const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    return new Worker(url, { type: 'module' });
  }
}

function folderUrl(url: string | URL): string {
  const { href } = absolute(url);
  return href.endsWith('/') ? href : `${href}/`;
}
