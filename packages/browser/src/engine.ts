/** A loaded network and its sampling. Runs in a worker or in the page. */
import type * as Ort from 'onnxruntime-web';
import type { OnnxDecoderInfo, OnnxDenoiserInfo } from 'patch-diffusion/samplers';
import { ModelError, memoryError, runtimeError } from './errors.js';
import { describeDecoder, describeDenoiser } from './onnx-file.js';
import type { Backend, Label, ModelInfo, SampleProgress, SampleSettings } from './options.js';
import { type PictureData, toRgba } from './picture.js';
import { resolveSampling } from './resolve.js';
import { chooseBackends, openRuntime, type RuntimeOptions } from './runtime.js';
import { type Batch, type DenoiserInputs, sampleBatch } from './sampling.js';

/** A file with its name for messages. */
export interface NamedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface SampleHooks {
  readonly onStep: (progress: SampleProgress) => void;
  readonly onPicture: (picture: PictureData) => void;
  readonly signal: AbortSignal | null;
}

/** Sessions of the network and, for latents, of its decoder. */
interface Sessions {
  readonly ort: typeof Ort;
  readonly denoiser: Ort.InferenceSession;
  readonly decoder: Ort.InferenceSession | null;
}

export class Engine {
  readonly info: ModelInfo;
  readonly #model: OnnxDenoiserInfo;
  #sessions: Sessions | null;
  /** One sampling at a time: the sessions cannot run twice at once. */
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(info: ModelInfo, model: OnnxDenoiserInfo, sessions: Sessions) {
    this.info = info;
    this.#model = model;
    this.#sessions = sessions;
  }

  /** @throws ModelError */
  static async open(file: NamedFile, decoder: NamedFile | null, options: RuntimeOptions): Promise<Engine> {
    const { info: model, license } = describeDenoiser(file.bytes, file.name);
    const decoding = decoder && describeDecoder(decoder.bytes, decoder.name);
    checkPair(model, decoding, file.name);
    let { backends, fallbackReason } = await chooseBackends(options);
    for (const backend of backends) {
      try {
        const { ort, threads } = await openRuntime(backend, options);
        const sessions = await openSessions(ort, backend, file, decoder);
        const info = infoOf(model, decoding, { license, backend, threads, fallbackReason });
        return new Engine(info, model, sessions);
      } catch (error) {
        if (backend === backends.at(-1)) throw error;
        fallbackReason = `WebGPU did not take the model: ${error instanceof Error ? error.message : error}`;
      }
    }
    throw new ModelError('FAILED', `internal: no backend for ${file.name}`);
  }

  /** Samples the pictures batch by batch. @throws ModelError, or the signal's reason */
  sample(settings: SampleSettings, hooks: SampleHooks): Promise<void> {
    const result = this.#queue
      .then(() => this.#sample(settings, hooks))
      .catch((error: unknown) => {
        throw memoryError(error, 'sample pictures of this size') ?? error;
      });
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #sample(settings: SampleSettings, { onStep, onPicture, signal }: SampleHooks): Promise<void> {
    const sampling = resolveSampling(settings, this.#model);
    const { seeds, batch } = sampling;
    const denoise = (inputs: DenoiserInputs) => this.#denoise(inputs);
    for (let done = 0; done < seeds.length; done += batch) {
      const inBatch = seeds.slice(done, done + batch);
      const pictures = (of: Batch) => this.#pictures(of, sampling.window, inBatch);
      const progress = async (step: number, numSteps: number, estimate: Batch) => {
        const estimates: PictureData[] | null = settings.estimates ? [] : null;
        if (estimates) for await (const picture of pictures(estimate)) estimates.push(picture);
        onStep({ step, numSteps, done, total: seeds.length, estimates });
        await nextTask();
        signal?.throwIfAborted();
      };
      await nextTask();
      signal?.throwIfAborted();
      const batched = await sampleBatch(this.#model, sampling, inBatch, denoise, progress);
      for await (const picture of pictures(batched)) onPicture(picture);
    }
  }

  async *#pictures(
    { samples, labels }: Batch,
    window: { width: number; height: number },
    seeds: readonly number[],
  ): AsyncGenerator<PictureData> {
    const size = samples.length / seeds.length;
    for (const [n, seed] of seeds.entries())
      yield await this.#picture(samples.subarray(n * size, (n + 1) * size), window, seed, labels[n]);
  }

  async #picture(
    sample: Float64Array,
    { width, height }: { width: number; height: number },
    seed: number,
    label: Label | null,
  ): Promise<PictureData> {
    const { decoder, ort } = this.#open();
    if (!decoder) return { seed, label, width, height, rgba: toRgba(sample, this.#model.channels) };
    const factor = this.#model.latents?.downFactor ?? 1;
    const shape = [1, this.#model.channels, height, width];
    const latents = new ort.Tensor('float32', Float32Array.from(sample), shape);
    const images = await run(decoder, { latents }, 'decode a picture');
    const rgba = toRgba(Float64Array.from(images), this.info.channels);
    return { seed, label, width: width * factor, height: height * factor, rgba };
  }

  async #denoise({ x, sigma, positions, classLabels, count, height, width }: DenoiserInputs) {
    const { ort, denoiser } = this.#open();
    const { channels, labelDim } = this.#model;
    const feeds: Record<string, Ort.Tensor> = {
      x: new ort.Tensor('float32', x, [count, channels, height, width]),
      sigma: new ort.Tensor('float32', sigma, [count]),
    };
    if (positions) feeds.positions = new ort.Tensor('float32', positions, [count, 2, height, width]);
    if (classLabels) feeds.class_labels = new ort.Tensor('float32', classLabels, [count, labelDim]);
    return run(denoiser, feeds, `sample ${count} pictures of ${width}×${height} at a time`);
  }

  #open(): Sessions {
    if (this.#sessions) return this.#sessions;
    throw new ModelError('DISPOSED', 'the model was disposed; load it anew');
  }

  /** Frees the network's memory; a sampling that runs ends with an error. */
  async dispose(): Promise<void> {
    const sessions = this.#sessions;
    this.#sessions = null;
    await this.#queue;
    await sessions?.denoiser.release();
    await sessions?.decoder?.release();
  }
}

function checkPair(model: OnnxDenoiserInfo, decoder: OnnxDecoderInfo | null, name: string): void {
  const { latents, channels } = model;
  if (latents && !decoder) {
    const file = name.replace(/(\.onnx)?$/, '-decoder.onnx');
    throw new ModelError(
      'NO_DECODER',
      `${name} was trained on latents; give its decoder, which was exported beside it: decoder: '${file}'`,
    );
  }
  if (!latents && decoder)
    throw new ModelError('BAD_OPTION', `${name} was trained on pixels; leave the decoder out`);
  if (decoder && (decoder.latentChannels !== channels || decoder.downFactor !== latents?.downFactor))
    throw new ModelError('BAD_OPTION', `the decoder belongs to another model than ${name}`);
  const shown = decoder?.channels ?? channels;
  if (![1, 3, 4].includes(shown))
    throw new ModelError(
      'FOREIGN_MODEL',
      `${name} makes images of ${shown} channels; pictures have 1, 3 or 4`,
    );
}

function infoOf(
  model: OnnxDenoiserInfo,
  decoder: OnnxDecoderInfo | null,
  known: Pick<ModelInfo, 'license' | 'backend' | 'threads' | 'fallbackReason'>,
): ModelInfo {
  const { image, channels, labelDim, sizeMultiple, latents, dataset, precision } = model;
  const factor = latents?.downFactor ?? 1;
  return {
    ...known,
    ...{ name: dataset.name, labelDim, precision, channels: decoder?.channels ?? channels },
    ...{ width: image.width * factor, height: image.height * factor, sizeMultiple: sizeMultiple * factor },
    ...{ classNames: dataset.classNames, labels: dataset.labels ?? null },
    ...{ steps: model.sampler.numSteps ?? 18, kimg: model.nimg / 1000 },
  };
}

async function openSessions(
  ort: typeof Ort,
  backend: Backend,
  file: NamedFile,
  decoder: NamedFile | null,
): Promise<Sessions> {
  const options = { executionProviders: [backend], logSeverityLevel: 3 } as const;
  const open = ({ bytes, name }: NamedFile) =>
    ort.InferenceSession.create(bytes, options).catch((error: unknown) => {
      throw runtimeError(error, `load ${name}`);
    });
  const denoiser = await open(file);
  try {
    return { ort, denoiser, decoder: decoder && (await open(decoder)) };
  } catch (error) {
    await denoiser.release();
    throw error;
  }
}

/** The only output. */
async function run(
  session: Ort.InferenceSession,
  feeds: Record<string, Ort.Tensor>,
  doing: string,
): Promise<Float32Array> {
  try {
    const results = await session.run(feeds);
    return results[session.outputNames[0]].data as Float32Array;
  } catch (error) {
    throw runtimeError(error, doing);
  }
}

/** Lets messages and drawing have their turn; a timer would wait 4 ms. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
