/**
 * Features without anyone's weights: a small classifier that is trained on the user's labelled images. The same images
 * give the same classifier; it is kept in the cache, so that runs which are set side by side share it.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { Adam, SafetensorsFile, writeSafetensors } from '@patch-diffusion/torch';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError } from '../../common/errors.js';
import { guarded } from '../../common/file-error.js';
import { Mt19937 } from '../../common/mt19937.js';
import { sha256Of } from '../../common/sha256.js';
import { chooseSubset, others } from '../../data/subset.js';
import type { DataSet } from '../../data/types.js';
import { cacheFolder } from '../../formats/hub/cache.js';
import { chunks, type Pixels } from '../pixels.js';
import { CLASS_FEATURES, ClassNetwork } from './class-network.js';
import type { Detector } from './detector.js';

/** Anything that changes the classifier of the same images raises it. */
const VERSION = 1;
/** Images that it is trained and tested on at most. */
const MAX_IMAGES = 20_000;
/** Share of the images that only tell how good it is. */
const TEST_SHARE = 0.1;
const BATCH = 64;
const EPOCHS = 10;
const [MIN_UPDATES, MAX_UPDATES] = [200, 1500];
const LEARNING_RATE = 2e-3;
const SEED = 20_230_425;

export interface ClassifierContext {
  readonly device: Device;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (what: string, done: number, total: number) => void;
}

/**
 * Opens the classifier of these images; trains it where the cache does not have it.
 * @param labelled a set with classes
 * @param pixels the same images, in the same order
 * @throws UserError where the images have no classes, or too few of them
 */
export async function openClassifier(
  labelled: DataSet,
  pixels: Pixels,
  context: ClassifierContext,
): Promise<Detector> {
  const classes = checkedClasses(labelled);
  const chosen = chooseSubset(pixels.count, MAX_IMAGES, SEED);
  const key = await keyOf(pixels, labelled, chosen, context);
  const folder = join(cacheFolder(), 'classifiers');
  const file = join(folder, `${key}.safetensors`);
  if ((await stat(file).catch(() => null)) === null) {
    const trained = await trainClassifier(pixels, labelled, chosen, classes, context);
    try {
      await guarded(`write ${file}`, async () => {
        makeFolder(folder);
        await writeSafetensors(file, trained.network.stateDict(), { accuracy: String(trained.accuracy) });
      });
    } finally {
      trained.network.dispose();
    }
  }
  return loadClassifier(file, pixels.channels, classes, context.device);
}

async function loadClassifier(
  file: string,
  channels: number,
  classes: number,
  device: Device,
): Promise<Detector> {
  const network = new ClassNetwork(channels, classes);
  let accuracy: number;
  const reader = SafetensorsFile.openSync(file);
  try {
    torch.scope(() =>
      network.loadStateDict(new Map(reader.names.map((name) => [name, reader.tensor(name)]))),
    );
    accuracy = Number(reader.metadata.accuracy);
  } catch (error) {
    network.dispose();
    throw error;
  } finally {
    await reader.close();
  }
  network.requiresGrad(false).eval().to({ device });
  return {
    record: { kind: 'classes', dim: CLASS_FEATURES, sha256: await sha256Of(file), accuracy },
    features: (images) =>
      torch.noGrad(() => torch.scope(() => network.features(images.to({ device })).to({ device: 'cpu' }))),
    dispose: () => network.dispose(),
  };
}

/** Number of classes. */
function checkedClasses(set: DataSet): number {
  const isClass = set.labelDim > 1 && typeof set.labelOf(0) === 'number';
  if (isClass && set.baseLength >= 20) return set.labelDim;
  const reason = isClass
    ? `has ${set.baseLength} images`
    : set.labelDim > 0
      ? 'has labels that are no classes'
      : 'has no labels';
  throw new UserError(
    'NO_CLASSES',
    `--features classifier needs at least 20 images in at least 2 classes, and ${set.path} ${reason}; give labelled images with --train-data, or use --features inception`,
  );
}

/** Identifies images, classes and classifier. */
async function keyOf(
  pixels: Pixels,
  labelled: DataSet,
  chosen: Int32Array,
  { signal, onProgress }: ClassifierContext,
): Promise<string> {
  const { channels, height, width } = pixels;
  const hash = createHash('sha256').update(
    JSON.stringify([VERSION, channels, height, width, labelled.labelDim, chosen.length]),
  );
  for (const block of chunks(chosen.length)) {
    signal?.throwIfAborted();
    const indices = block.map((k) => chosen[k]);
    hash.update(await pixels.read(indices)).update(JSON.stringify(indices.map((k) => labelled.labelOf(k))));
    onProgress?.('looking at labelled images', block[0] + block.length, chosen.length);
    await setImmediate();
  }
  return hash.digest('hex').slice(0, 32);
}

/** Trains on nine tenths of the images, and counts how many of the others are classified right. */
async function trainClassifier(
  pixels: Pixels,
  labelled: DataSet,
  chosen: Int32Array,
  classes: number,
  { device, signal, onProgress }: ClassifierContext,
): Promise<{ network: ClassNetwork; accuracy: number }> {
  const test = chooseSubset(chosen.length, Math.max(1, Math.floor(chosen.length * TEST_SHARE)), SEED);
  const training = others(chosen.length, test);
  const updates = Math.min(
    MAX_UPDATES,
    Math.max(MIN_UPDATES, Math.round((EPOCHS * training.length) / BATCH)),
  );
  const take = async (numbers: ArrayLike<number>) => {
    const indices = Array.from(numbers, (k) => chosen[k]);
    return { bytes: await pixels.read(indices), labels: indices.map((k) => labelled.labelOf(k) as number) };
  };
  const tensors = ({ bytes, labels }: Awaited<ReturnType<typeof take>>) => {
    const shape = [labels.length, pixels.channels, pixels.height, pixels.width];
    return [
      torch.tensor(bytes, { shape, dtype: 'uint8', device }),
      torch.tensor(labels, { dtype: 'int64', device }),
    ];
  };
  const network = new ClassNetwork(pixels.channels, classes).initialise(SEED).to({ device });
  const optimizer = new Adam(network.namedParameters());
  const random = new Mt19937(SEED);
  try {
    let order: Int32Array = new Int32Array();
    let at = 0;
    for (let update = 0; update < updates; update++) {
      signal?.throwIfAborted();
      if (at >= order.length) {
        order = training.slice();
        random.shuffle(order);
        at = 0;
      }
      const batch = await take(order.subarray(at, at + BATCH));
      at += BATCH;
      torch.scope(() => {
        const [images, labels] = tensors(batch);
        torch.crossEntropyLoss(network.logits(images), labels).backward();
      });
      optimizer.step(LEARNING_RATE * 0.5 * (1 + Math.cos((Math.PI * update) / updates)));
      network.zeroGrad();
      onProgress?.('training a classifier for features', update + 1, updates);
      await setImmediate();
    }
    let right = 0;
    for (const block of chunks(test.length)) {
      const batch = await take(block.map((k) => test[k]));
      right += torch.noGrad(() =>
        torch.scope(() => {
          const [images, labels] = tensors(batch);
          return network.logits(images).argmax(1).eq(labels).sum().item();
        }),
      );
    }
    return { network, accuracy: right / test.length };
  } catch (error) {
    network.dispose();
    throw error;
  } finally {
    optimizer.dispose();
  }
}
