/**
 * The real images of an evaluation: those that the network was trained on, and others that it never saw. Held out are the
 * images that the run kept from training; else those of `--data` whose content is not among the training images.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { UserError } from '../common/errors.js';
import type { EvaluateOptions } from '../config/evaluate-options.js';
import type { TrainOptions } from '../config/train-options.js';
import { openLatents } from '../data/latents.js';
import { isLatentPath } from '../data/names.js';
import { openImages } from '../data/open-images.js';
import type { DataSet, ImageChannels } from '../data/types.js';
import { holdOut, Subset } from '../data/views.js';
import { type Extent, extentName } from '../patches/extent.js';
import { openTrainingData } from '../training/data.js';
import type { EvaluationContext } from './events.js';
import { chunks } from './pixels.js';
import type { Model } from './subject.js';

export interface Reals {
  /** Images that the figures are measured on. */
  readonly judged: DataSet;
  /** Whether the network never saw them. */
  readonly isHeldOut: boolean;
  /** Images that the network was trained on; null where they are not known. */
  readonly training: DataSet | null;
  close(): Promise<void>;
}

/** Size and labels that data must have to be put to a network, or beside images. */
interface Wanted extends Extent {
  readonly channels: number;
  readonly labels: 'auto' | boolean;
  readonly labelDim: number;
  readonly isLatent: boolean;
}

interface Context extends EvaluationContext {
  readonly warn: (message: string) => void;
}

/** Opens the real images for a network. @throws UserError where there are none that fit */
export async function openReals(
  { denoiser, info }: Model,
  options: EvaluateOptions,
  context: Context,
): Promise<Reals> {
  const { height, width } = denoiser.imageExtent;
  const { labelDim } = denoiser;
  const wanted = {
    ...{ height, width, channels: denoiser.dataChannels },
    ...{ labels: labelDim > 0, labelDim, isLatent: Boolean(info.latents) },
  };
  const training = await openTraining(info.train, options, wanted, context);
  try {
    const isSame =
      options.data !== null && training !== null && (await isSamePath(options.data, training.path));
    if (options.data === null || isSame) return await ofTraining(training, info.train, context);
    const data = await openData(options.data, wanted, context);
    try {
      const known = training && (await splitTraining(training, info.train));
      return await besideTraining(data, known?.train ?? null, context);
    } catch (error) {
      await data.close();
      throw error;
    }
  } catch (error) {
    await training?.close();
    throw error;
  }
}

/** Opens the real images to compare other images with. */
export async function openRealsForImages(
  size: Extent & { readonly channels: number },
  options: EvaluateOptions,
  context: Context,
): Promise<Reals | null> {
  const wanted = { ...size, labels: 'auto' as const, labelDim: 0, isLatent: false };
  const { data, trainData } = options;
  if (data === null && trainData === null) return null;
  const training = trainData === null ? null : await openData(trainData, wanted, context);
  if (data === null || (trainData !== null && (await isSamePath(data, trainData))))
    return { judged: training!, isHeldOut: false, training, close: () => training!.close() };
  const set = await openData(data, wanted, context).catch(async (error: unknown) => {
    await training?.close();
    throw error;
  });
  if (training === null) return { judged: set, isHeldOut: false, training: set, close: () => set.close() };
  return besideTraining(set, training, context);
}

/**
 * Opens the labelled images that a classifier is trained on: the training images, else those of `--data`; held-out ones
 * stay out.
 * @param size of images that are compared without a network
 * @throws UserError where they have no labels
 */
export async function openLabelled(
  model: Model | null,
  size: (Extent & { readonly channels: number }) | null,
  options: EvaluateOptions,
  context: Context,
): Promise<DataSet> {
  const { height, width } = model?.denoiser.imageExtent ?? size!;
  const wanted: Wanted = {
    ...{ height, width, channels: model?.denoiser.dataChannels ?? size!.channels },
    ...{ labels: true, labelDim: 0, isLatent: Boolean(model?.info.latents) },
  };
  const train = model?.info.train ? { ...model.info.train, cond: true } : null;
  const training = await openTraining(train, options, wanted, context);
  if (training !== null) return (await splitTraining(training, train)).train;
  if (options.data !== null) return openData(options.data, wanted, context);
  throw new UserError(
    'NO_DATA',
    '--features classifier needs labelled images to train on; name them with --train-data or --data',
  );
}

/** The images that a run recorded, or `--train-data`; null where neither is there. */
async function openTraining(
  train: TrainOptions | null,
  { trainData }: EvaluateOptions,
  wanted: Wanted,
  context: Context,
): Promise<DataSet | null> {
  const path = trainData ?? train?.data ?? null;
  if (path === null) return null;
  if ((await stat(path).catch(() => null)) === null) {
    if (trainData !== null)
      throw new UserError('DATA_NOT_FOUND', `--train-data ${trainData} does not exist; check the path`);
    return null;
  }
  // The recorded options choose the same images, in the same order, as the run did.
  const { signal, warn } = context;
  const set = train
    ? await openTrainingData(
        { ...train, data: path, resolution: wanted.isLatent ? train.resolution : extentOption(wanted) },
        {
          ...(signal ? { signal } : {}),
          emit: (event) => {
            if (event.type === 'warning') warn(event.message);
            if (event.type === 'data') report(context, event.done, event.total);
          },
        },
      )
    : await openData(path, wanted, context);
  return checked(set, wanted);
}

const extentOption = ({ height, width }: Extent) => (height === width ? width : { height, width });

const report = ({ onEvent }: EvaluationContext, done: number, total: number) =>
  onEvent?.({ type: 'progress', subject: '', what: 'reading images', done, total });

async function openData(path: string, wanted: Wanted, context: Context): Promise<DataSet> {
  if (isLatentPath(path)) {
    if (!wanted.isLatent)
      throw new UserError('WRONG_DATA', `${path} holds latents, but images are needed; give images`);
    return checked(await openLatents(path, { labels: wanted.labels }), wanted);
  }
  if (wanted.isLatent)
    throw new UserError('WRONG_DATA', `${path}: this network was trained on latents; give a file of latents`);
  const set = await openImages(path, {
    resolution: { height: wanted.height, width: wanted.width },
    channels: wanted.channels as ImageChannels,
    labels: wanted.labels,
    ...(context.signal ? { signal: context.signal } : {}),
    onProgress: (done, total) => report(context, done, total),
  });
  const { length } = set.report.skipped;
  if (length > 0)
    context.warn(`${path}: ${length} files are left out, such as ${set.report.skipped[0].file}`);
  return checked(set, wanted);
}

/** @throws UserError when the data is of another size or has other labels than the network */
async function checked<D extends DataSet>(set: D, wanted: Wanted): Promise<D> {
  const shape = (s: Extent & { channels: number }) => `${extentName(s)} px with ${s.channels} channels`;
  const problem =
    shape(set) !== shape(wanted)
      ? `has images of ${shape(set)}, and ${shape(wanted)} are needed`
      : wanted.labelDim > 0 && set.labelDim !== wanted.labelDim
        ? `has ${set.labelDim} classes, and the network ${wanted.labelDim}`
        : null;
  if (problem === null) return set;
  await set.close();
  throw new UserError('WRONG_DATA', `${set.path} ${problem}; give the data that the network was made for`);
}

async function splitTraining(
  training: DataSet,
  train: TrainOptions | null,
): Promise<{ train: DataSet; heldOut: DataSet | null }> {
  const count = train?.holdout ?? 0;
  if (count < 1 || count >= training.baseLength) return { train: training, heldOut: null };
  return holdOut(training, count, train?.seed ?? 0);
}

async function ofTraining(
  training: DataSet | null,
  train: TrainOptions | null,
  { warn }: Context,
): Promise<Reals> {
  if (training === null) {
    const where = train?.data === undefined ? 'it does not say' : `${train.data} is not there`;
    throw new UserError(
      'NO_DATA',
      `no images to evaluate on: the network's training images are not known (${where}); add --data FOLDER, or --train-data where they are now`,
    );
  }
  const { train: seen, heldOut } = await splitTraining(training, train);
  if (heldOut === null)
    warn(
      'the run held no images out, so the loss is measured on training images; train with --holdout, or give other images with --data',
    );
  return {
    judged: heldOut ?? seen,
    isHeldOut: heldOut !== null,
    training: seen,
    close: () => training.close(),
  };
}

/** Leaves out the training images, by their content. */
async function besideTraining(data: DataSet, training: DataSet | null, { warn }: Context): Promise<Reals> {
  const close = async () => {
    await data.close();
    await training?.close();
  };
  if (training === null) {
    warn(
      `the training images are not there, so those among ${data.path} cannot be left out; name them with --train-data`,
    );
    return { judged: data, isHeldOut: true, training: null, close };
  }
  const seen = await contents(training, true);
  const kept: number[] = [];
  let index = 0;
  for await (const [hash] of hashes(data, false)) {
    if (!seen.has(hash)) kept.push(index);
    index++;
  }
  if (kept.length < 2) {
    warn(`all images of ${data.path} are training images, so the loss is measured on training images`);
    return { judged: data, isHeldOut: false, training, close };
  }
  return { judged: new Subset(data, Int32Array.from(kept), false), isHeldOut: true, training, close };
}

async function contents(set: DataSet, mirrored: boolean): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const both of hashes(set, mirrored)) for (const hash of both) found.add(hash);
  return found;
}

/** Of each image, a checksum of its pixels, and of its mirrored pixels if wanted. */
async function* hashes(set: DataSet, mirrored: boolean): AsyncGenerator<string[]> {
  const { height, width } = set;
  for (const indices of chunks(set.baseLength)) {
    await set.ready(indices);
    const zeros = new Int32Array(indices.length);
    const values = set.gather(indices, { size: { height, width }, rows: zeros, cols: zeros });
    // Latents: means, then standard deviations; the means tell the images apart.
    const length = (set.latents ? values.length / 2 : values.length) / indices.length;
    for (let n = 0; n < indices.length; n++) {
      const image = values.slice(n * length, (n + 1) * length);
      const found = [hashOf(image)];
      if (mirrored && !set.latents) {
        for (let row = 0; row < image.length; row += width) image.subarray(row, row + width).reverse();
        found.push(hashOf(image));
      }
      yield found;
    }
  }
}

function hashOf(values: Uint8Array | Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash('sha1').update(bytes).digest('base64');
}

async function isSamePath(a: string, b: string): Promise<boolean> {
  if (resolve(a) === resolve(b)) return true;
  const [first, second] = await Promise.all([a, b].map((path) => stat(path).catch(() => null)));
  return first !== null && second !== null && first.ino === second.ino && first.dev === second.dev;
}
