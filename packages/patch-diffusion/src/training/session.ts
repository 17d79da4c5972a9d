/**
 * What a training run holds while it runs: the run folder, the networks, the random streams, the clock. Opened either
 * fresh or from a saved state.
 */
import { freemem } from 'node:os';
import * as torch from '@patch-diffusion/torch';
import { Adam } from '@patch-diffusion/torch';
import { validateAgainstData } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { Mt19937 } from '../data/mt19937.js';
import { InfiniteSampler } from '../data/sampler.js';
import type { DataSet } from '../data/types.js';
import { holdOut } from '../data/views.js';
import { createAugment } from '../diffusion/augmentation/index.js';
import { LatentDecoder } from '../diffusion/latents.js';
import { createDenoiser } from '../diffusion/preconditioning.js';
import { UserError } from '../errors.js';
import { importedNetwork, restoreImported } from '../interchange/imported-state.js';
import type { PatchSize } from '../patches/schedule.js';
import { version } from '../version.js';
import { type LoopCounters, type Resumable, readTrainingState, writeTrainingState } from './checkpoint.js';
import { checkPrecision, guardMemory, prepareDenoiser, resolveDevice } from './device.js';
import { copyWeights } from './ema.js';
import type { TrainEventListener, TrainProgress } from './events.js';
import { DynamicLossScale } from './loss-scale.js';
import {
  describeAugment,
  describeDenoiser,
  describeLoss,
  describePatches,
  describeSchedule,
} from './model.js';
import type { RoundsOptions } from './rounds.js';
import { findResume, RunFolder } from './run-folder.js';
import { writeSnapshot } from './snapshot.js';
import { Stats } from './stats.js';
import type { StepOptions, StepResult, TrainingState } from './step.js';
import { transferWeights } from './transfer.js';

/** Seconds of this session, split by what they were spent on since the last tick. */
interface Timing {
  readonly sessionStart: number;
  tickStart: number;
  trainSec: number;
  maintenanceSec: number;
  lastSamplesAt: number;
}

export class Session {
  readonly stats = new Stats();
  readonly timing: Timing;
  readonly totalNimg: number;
  newestSnapshot: string | null = null;
  nonFiniteSteps = 0;
  readonly #startNimg: number;

  constructor(
    readonly options: TrainOptions,
    readonly images: DataSet,
    readonly folder: RunFolder,
    readonly resumable: Resumable,
    readonly sizes: readonly PatchSize[],
    /** Images that training never sees, or null. */
    readonly heldOut: DataSet | null,
    readonly rounds: RoundsOptions,
    readonly step: StepOptions,
    /** Makes images of what a network for latents samples. */
    readonly decoder: LatentDecoder | null,
  ) {
    const now = performance.now();
    this.timing = { sessionStart: now, tickStart: now, trainSec: 0, maintenanceSec: 0, lastSamplesAt: now };
    this.totalNimg = Math.max(Math.round(options.durationKimg * 1000), 1);
    this.#startNimg = resumable.state.nimg;
  }

  get state(): TrainingState {
    return this.resumable.state;
  }

  get counters(): LoopCounters {
    return this.resumable.counters;
  }

  get device(): string {
    return this.resumable.device;
  }

  progress(): TrainProgress {
    const { step, nimg } = this.state;
    return { step, nimg, kimg: nimg / 1000, totalNimg: this.totalNimg };
  }

  /** f of the progressive schedule, 0 … 1. */
  shareDone(): number {
    return (Math.floor(this.state.nimg / 1000) * 1000) / this.totalNimg;
  }

  /** Seconds since this process began to train. */
  sessionSec(): number {
    return (performance.now() - this.timing.sessionStart) / 1000;
  }

  /** Seconds over all sessions of the run. */
  totalSec(): number {
    return this.counters.earlierSec + this.sessionSec();
  }

  /** Accounted images per second of training, without sampling and saving, since this session began. */
  imagesPerSec(): number {
    return (this.state.nimg - this.#startNimg) / Math.max(this.timing.trainSec, 1e-9);
  }

  /** Seconds to the end of the run, by duration or time limit. */
  etaSec(): number {
    const rate = (this.state.nimg - this.#startNimg) / Math.max(this.sessionSec(), 1e-9);
    const byImages = Math.max(this.totalNimg - this.state.nimg, 0) / Math.max(rate, 1e-9);
    const { maxSec } = this.options;
    return maxSec === null ? byImages : Math.min(byImages, Math.max(maxSec - this.sessionSec(), 0));
  }

  /** Adds an update to the statistics of the current tick. */
  record({ rounds, gradNorm, lr, skipped }: StepResult): void {
    for (const { patch, lossSum, lossMean, lossSquares } of rounds) {
      this.stats.addLoss(patch, lossSum / lossMean, lossSum, lossSquares);
    }
    this.stats.add('Progress/lr', lr);
    if (Number.isFinite(gradNorm)) this.stats.add('Progress/grad_norm', gradNorm);
    else if (!skipped) this.nonFiniteSteps += 1;
    const { lossScale } = this.state;
    if (lossScale) this.stats.add('Progress/loss_scale', lossScale.scale);
  }

  /** Writes a snapshot of the averaged weights. */
  async saveSnapshot(): Promise<string> {
    const file = this.folder.file('snapshots', `network-snapshot-${this.#stamp()}.safetensors`);
    const { options, images, state } = this;
    await writeSnapshot(file, state.ema, {
      loss: this.step.loss,
      train: options,
      dataset: { name: images.name, classNames: images.classNames },
      latents: images.latents,
      nimg: state.nimg,
      step: state.step,
    });
    this.newestSnapshot = file;
    return file;
  }

  /** Writes the complete state. */
  async saveState(): Promise<string> {
    const file = this.folder.file('state', `training-state-${this.#stamp()}.safetensors`);
    const counters = { ...this.counters, earlierSec: this.totalSec() };
    await writeTrainingState(file, { ...this.resumable, counters });
    return file;
  }

  #stamp(): string {
    return String(Math.floor(this.state.nimg / 1000)).padStart(6, '0');
  }

  dispose(): void {
    this.state.denoiser.dispose();
    this.state.ema.dispose();
    this.state.optimizer.dispose();
    this.decoder?.dispose();
  }
}

/** Builds a run from its options and data, fresh or where a saved state left off, and announces it. */
export async function openSession(
  options: TrainOptions,
  images: DataSet,
  emit: TrainEventListener,
): Promise<Session> {
  validateAgainstData(options, images);
  guardMemory();
  const device = resolveDevice(options.device);
  checkPrecision(options.precision, device);
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const batchGpu = Math.min(options.batchGpu ?? options.batch, options.batch);
  const sizes = describePatches(options, images);

  const { latents } = images;
  const decoder =
    latents && (await LatentDecoder.open(latents, options.autoencoder, images.channels, device));

  // The streams of the reference: NumPy's chooses libtorch's seed, then the patch sizes; the data order has its own.
  const patchRandom = new Mt19937(options.seed);
  torch.manualSeed(patchRandom.randint(0, 2 ** 31));
  const { train: trainImages, heldOut } = splitImages(images, options);
  const order = new InfiniteSampler({ length: trainImages.length, seed: options.seed });

  const spec = describeDenoiser(options, images);
  const newDenoiser = () => prepareDenoiser(createDenoiser(spec), device, options.precision);
  const denoiser = newDenoiser().train();
  const ema = newDenoiser().requiresGrad(false).eval();
  copyWeights(ema, denoiser);
  const optimizer = new Adam(denoiser.namedParameters(), {
    lr: options.lr,
    betas: options.betas,
    eps: options.adamEps,
  });
  const lossScale = options.lossScaling === 'dynamic' ? new DynamicLossScale() : null;
  const state: TrainingState = { denoiser, ema, optimizer, lossScale, nimg: 0, step: 0 };
  const counters: LoopCounters = { tick: 0, tickStartNimg: 0, earlierSec: 0 };
  const resumable: Resumable = { state, counters, order, patchRandom, device };

  const init = { config: options, version, totalNimg: Math.round(options.durationKimg * 1000) };
  const imported = options.resume !== null && (await importedNetwork(options.resume)) !== null;
  const from = options.resume === null || imported ? null : await findResume(options.resume, options.out);
  if (from) await readTrainingState(from.state, resumable);
  else if (imported) await resumeImported(options.resume!, resumable, emit);
  else if (options.transfer !== null) await transferWeights(options.transfer, state, emit);
  const folder = from ? await RunFolder.reopen(from.runDir, init) : await RunFolder.create(init);

  const pipeline = describeAugment(options);
  const augment = pipeline && createAugment(pipeline);
  const step: StepOptions = {
    ...options,
    lossScaling: options.lossScaling === 'dynamic' ? 1 : options.lossScaling,
    emaRampupRatio: options.transfer === null ? options.emaRampupRatio : null,
    image: { height: images.height, width: images.width },
    loss: describeLoss(options, images),
    augment: options.augmentAt === 'patch' ? augment : null,
  };
  const rounds: RoundsOptions = {
    images: trainImages,
    order,
    patchRandom,
    schedule: describeSchedule(options, sizes),
    rounds: options.batch / batchGpu,
    batchGpu,
    device,
    augmentImages: options.augmentAt === 'image' ? augment : null,
  };
  const session = new Session(options, images, folder, resumable, sizes, heldOut, rounds, step, decoder);
  warnAboutMemory(session, emit);
  warnAboutSkipped(images, emit);
  const { name, path, length, channels, height, width, labelDim } = images;
  emit({
    type: 'start',
    ...session.progress(),
    runDir: folder.dir,
    options,
    dataset: { name, path, length, channels, height, width, labelDim },
    patches: sizes,
    parameters: denoiser.numParams(),
    device,
    resumedFrom: from?.state ?? (imported ? options.resume : null),
  });
  return session;
}

/** Keeps `holdout` images, mirrored or not, out of training. */
function splitImages(
  images: DataSet,
  { holdout, seed }: TrainOptions,
): { train: DataSet; heldOut: DataSet | null } {
  if (holdout === 0) return { train: images, heldOut: null };
  if (holdout >= images.baseLength) {
    throw new UserError(
      'HOLDOUT_TOO_LARGE',
      `--holdout ${holdout} leaves nothing to train on (${images.baseLength} images); choose a smaller one`,
      { exitCode: 2 },
    );
  }
  return holdOut(images, holdout, seed);
}

/** Goes on from a state of the official trainer, in a run folder of its own. */
async function resumeImported(
  file: string,
  { state, counters }: Resumable,
  emit: TrainEventListener,
): Promise<void> {
  const unused = await restoreImported(file, state);
  counters.tickStartNimg = state.nimg;
  if (unused.length)
    emit({
      type: 'warning',
      code: 'UNUSED_TENSORS',
      message: `${file}: ${unused.join(', ')} not used without augmentation`,
    });
}

/** Weights, gradients, moments and the average are five copies; activations come on top. */
function warnAboutMemory({ state, device }: Session, emit: TrainEventListener): void {
  const weightBytes = state.denoiser.numParams() * 4 * 5;
  if (device !== 'cpu' || weightBytes < freemem() * 0.8) return;
  const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);
  emit({
    type: 'warning',
    code: 'LOW_MEMORY',
    message: `weights and optimiser need ${gib(weightBytes)} GiB and ${gib(freemem())} GiB are free; lower --model-channels if the run is killed`,
  });
}

/** How many skipped files a warning names. */
const SKIPPED_SHOWN = 10;

function warnAboutSkipped({ report: { skipped }, path }: DataSet, emit: TrainEventListener): void {
  if (!skipped.length) return;
  const shown = skipped.slice(0, SKIPPED_SHOWN).map(({ file, reason }) => `${file} (${reason})`);
  const more = skipped.length - shown.length;
  const rest = more > 0 ? `, and ${more} more; \`patch-diffusion info ${path} --verify\` lists all` : '';
  emit({
    type: 'warning',
    code: 'SKIPPED',
    message: `skipped ${skipped.length} files: ${shown.join(', ')}${rest}`,
  });
}
