/** Opens a training run from its options and data, fresh or where a saved state left off. */
import * as torch from '@patch-diffusion/torch';
import { Adam } from '@patch-diffusion/torch';
import { validateAgainstData } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { Mt19937 } from '../data/mt19937.js';
import { InfiniteSampler } from '../data/sampler.js';
import type { DataSet } from '../data/types.js';
import { holdOut } from '../data/views.js';
import { createAugment } from '../diffusion/augmentation/index.js';
import { checkPrecision, guardMemory, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import { LatentDecoder } from '../diffusion/latents.js';
import { createDenoiser } from '../diffusion/preconditioning.js';
import { UserError } from '../errors.js';
import { importedNetwork, restoreImported } from '../interchange/imported-state.js';
import { version } from '../version.js';
import { type LoopCounters, type Resumable, readTrainingState } from './checkpoint.js';
import { copyWeights } from './ema.js';
import type { TrainEventListener } from './events.js';
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
import { Session } from './session.js';
import type { StepOptions, TrainingState } from './step.js';
import { transferWeights } from './transfer.js';

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
  const order = new InfiniteSampler({ length: trainImages.length, seed: options.seed, mode: options.order });

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
