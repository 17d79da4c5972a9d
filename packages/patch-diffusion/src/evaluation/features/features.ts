/** The features of samples, of held-out and of training images, in files of the evaluation's work folder. */
import { join } from 'node:path';
import { resolveDevice } from '../../diffusion/device.js';
import { type Bench, MANY, progressOf, spread } from '../bench.js';
import { dataPixels, type Pixels } from '../pixels.js';
import { openLabelled } from '../reals.js';
import { openClassifier } from './classifier.js';
import type { Detector, FeatureRecord } from './detector.js';
import { FeatureSet, type Features } from './feature-set.js';
import { openInception } from './inception-detector.js';

export class ImageFeatures implements Features {
  readonly #bench: Bench;
  readonly #detector: Detector;
  readonly #open = new Map<string, FeatureSet>();

  private constructor(bench: Bench, detector: Detector) {
    this.#bench = bench;
    this.#detector = detector;
  }

  /** Opens the network that `--features` names. @throws UserError where there is none that fits */
  static async open(bench: Bench): Promise<Features> {
    return new ImageFeatures(bench, await openDetector(bench));
  }

  get record(): FeatureRecord {
    return this.#detector.record;
  }

  async samples(): Promise<FeatureSet> {
    return this.#of('samples', await this.#bench.samples());
  }

  async judged(): Promise<FeatureSet | null> {
    const { reals, model } = this.#bench;
    return reals && this.#of('judged', dataPixels(reals.judged, model?.decoder ?? null));
  }

  async training(): Promise<FeatureSet | null> {
    const { reals, model, options } = this.#bench;
    if (!reals?.training) return null;
    if (reals.training === reals.judged) return this.judged();
    const all = dataPixels(reals.training, model?.decoder ?? null);
    return this.#of('training', options.real === 'training' ? all : spread(all, Math.min(all.count, MANY)));
  }

  async real(): Promise<FeatureSet | null> {
    return this.#bench.options.real === 'training'
      ? ((await this.training()) ?? this.judged())
      : this.judged();
  }

  async close(): Promise<void> {
    for (const set of this.#open.values()) await set.close();
    this.#open.clear();
    this.#detector.dispose();
  }

  async #of(name: string, pixels: Pixels): Promise<FeatureSet> {
    const known = this.#open.get(name);
    if (known) return known;
    const { work, options, context } = this.#bench;
    const what = `features of ${name === 'judged' ? 'real images' : name === 'training' ? 'training images' : name}`;
    const file = join(work.path, `features-${name}-${this.record.sha256.slice(0, 12)}.bin`);
    const set = await FeatureSet.of(pixels, this.#detector, file, {
      ...{ batch: options.batch, signal: context.signal },
      onProgress: progressOf(this.#bench, what, pixels.count),
    });
    this.#open.set(name, set);
    return set;
  }
}

async function openDetector(bench: Bench): Promise<Detector> {
  const { options, context, model, subject } = bench;
  const device = model?.device ?? resolveDevice(options.device);
  const { signal, onEvent } = context;
  if (options.features === 'inception') {
    return openInception(options.inceptionWeights!, {
      device,
      ...(signal ? { signal } : {}),
      onProgress: (doneBytes, totalBytes) => onEvent?.({ type: 'fetch', doneBytes, totalBytes }),
      onNote: (message) => bench.warn(message),
    });
  }
  const samples = model === null ? await bench.samples() : null;
  const set = await openLabelled(model, samples, options, { ...context, warn: bench.warn });
  try {
    return await openClassifier(set, dataPixels(set, model?.decoder ?? null), {
      ...{ device, signal },
      onProgress: (what, done, total) =>
        onEvent?.({ type: 'progress', subject: subject.name, what, done, total }),
    });
  } finally {
    await set.close();
  }
}
