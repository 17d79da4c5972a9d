/** Builds a training run from its options and data, new or from a saved state. */
import * as torch from '@patch-diffusion/torch';
import { Adam, Muon } from '@patch-diffusion/torch';
import { UserError, usageError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { isLaunched } from '../common/launched.js';
import { Mt19937 } from '../common/mt19937.js';
import { withoutSecrets } from '../common/secrets.js';
import type { Trace } from '../common/trace.js';
import { version } from '../common/version.js';
import { validateAgainstData } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { labelsToDraw } from '../data/sample-labels.js';
import { InfiniteSampler } from '../data/sampler.js';
import type { DataSet } from '../data/types.js';
import { holdOut } from '../data/views.js';
import { createAugment } from '../diffusion/augmentation/index.js';
import { checkPrecision, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import { createDenoiser } from '../diffusion/preconditioning.js';
import { ownDevice, setThreads } from '../distributed/machine.js';
import type { Ranks } from '../distributed/ranks.js';
import { restoreImported } from '../interchange/imported-state.js';
import { transferDetails, transferSummary, transferWeights } from '../interchange/transfer.js';
import { LatentDecoder } from '../latents/latents.js';
import { RunFolder } from '../run/run-folder.js';
import { setAside } from '../run/superseded.js';
import { newCounters, type Resumable, readTrainingState } from './checkpoint.js';
import { copyWeights } from './ema.js';
import type { Evaluator } from './evaluator.js';
import { EvenWeights } from './even-weights.js';
import type { TrainEventListener } from './events.js';
import { DynamicLossScale } from './loss-scale.js';
import { augmentSpec, isBlockWeight, lossSpec, patchSchedule, patchSizes, precondSpec } from './model.js';
import type { UpdateSource } from './next-update.js';
import { NoiseHistogram } from './noise-histogram.js';
import { NoiseLevels } from './noise-levels-by-loss.js';
import { imagesFor, passGraphs, readsLater } from './on-gpu.js';
import { PowerAverages } from './power-averages.js';
import { CandidateStream, makeGenerators } from './random-streams.js';
import { checkUnfinished, type EarlierRun, totalNimg } from './resume.js';
import { disposeState, Session } from './session.js';
import { shareState } from './share-state.js';
import { lastGoodState } from './state-files.js';
import type { StepOptions, TrainingState } from './step.js';
import { Trackers } from './trackers.js';

export interface SessionContext {
  /** The run to continue, or null for a new one. */
  readonly earlier: EarlierRun | null;
  readonly ranks: Ranks | null;
  readonly evaluator: Evaluator | null;
  readonly trace: Trace | null;
  readonly signal: AbortSignal | undefined;
  readonly emit: TrainEventListener;
}

/** Builds a run from its options and data, new or from a saved state. On failure nothing is left open. */
export async function openSession(
  given: TrainOptions,
  dataset: DataSet,
  { earlier, ranks, evaluator, trace, signal, emit }: SessionContext,
): Promise<Session> {
  // What is recorded and shown has no secrets.
  const options = { ...given, transfer: given.transfer && withoutSecrets(given.transfer) };
  validateAgainstData(options, dataset);
  const device = ownDevice(resolveDevice(options.device), ranks);
  checkPrecision(options.precision, device);
  setThreads(options.threads, ranks);

  const { latents } = dataset;
  const decoder =
    latents && (await LatentDecoder.open(latents, options.autoencoder, dataset.channels, device));
  // The streams of the reference: NumPy's chooses libtorch's seed, then the patch sizes; the data order has its own.
  const patchRandom = new Mt19937(options.seed);
  torch.manualSeed(patchRandom.randint(0, 2 ** 31));
  const { train, heldOut } = await splitDataset(dataset, options);
  const trainSet = imagesFor(device, train);
  const order = new InfiniteSampler({ length: trainSet.length, seed: options.seed, mode: options.order });
  const state = newTrainingState(options, dataset, device);
  const counters = newCounters();
  const generators = makeGenerators(device, ranks !== null);
  const resumable: Resumable = { state, counters, order, patchRandom, generators, device };
  const isWriter = ranks?.isWriter ?? true;
  try {
    if (!isWriter) {
      // Rank 0 gives its state to all.
    } else if (earlier) await resume(earlier, resumable, options.allowDataChange, emit);
    else if (options.resume !== null) await resumeImported(options, resumable, emit);
    else if (given.transfer !== null) await transfer(given.transfer, state, { signal, emit });

    if (ranks) await shareState(ranks, resumable);

    const step = {
      ...stepOptions(options, trainSet, device),
      ...{ reducer: ranks?.reducer(state.denoiser.parameters()) ?? null, trace },
      graphs: passGraphs(options, state, device, { ranks, emit }),
      readsLater: readsLater(device, state, ranks),
    };
    const schedule = patchSchedule(options, patchSizes(options, dataset));
    const { batch, batchGpu } = options;
    const updates: UpdateSource = {
      ...{ dataset: trainSet, order, patchRandom, schedule, device, generators },
      ...{ batch, batchGpu: batchGpu ?? batch, ranks, rankSizes: options.rankSizes },
      ...byLosses(options, dataset, state.noise),
      // Of a stream that nothing else draws from.
      stratifyShift: options.stratify ? new Mt19937(options.seed + 1).randomDouble() : null,
      candidates: candidateStream(options, device),
    };
    const folder = isWriter ? await openFolder(options, state, { earlier, emit, ranks }) : null;
    const runDir = ranks ? await sharedFolder(ranks, folder) : folder!.dir;
    return new Session({
      ...{ options, dataset, heldOut, decoder, folder, runDir, ranks, evaluator, resumable, updates, step },
      trackers: folder && (await Trackers.open(options, runDir)),
      labels: labelsToDraw(trainSet, options.seed),
      totalNimg: totalNimg(options),
      due: earlier?.info.due,
      resumedFrom: earlier?.state ?? options.resume,
    });
  } catch (error) {
    disposeState(state);
    decoder?.dispose();
    throw error;
  }
}

/** The path of rank 0's folder. Where the others do not come so far, the run has failed. */
async function sharedFolder(ranks: Ranks, folder: RunFolder | null): Promise<string> {
  try {
    return await ranks.share(folder?.dir ?? null);
  } catch (error) {
    await folder?.fail(error).catch(() => {});
    throw error;
  }
}

/** Networks and optimiser before the first update. */
function newTrainingState(options: TrainOptions, dataset: DataSet, device: torch.Device): TrainingState {
  const spec = precondSpec(options, dataset);
  const newDenoiser = () => prepareDenoiser(createDenoiser(spec), device, options.precision);
  const denoiser = newDenoiser().train();
  const ema = newDenoiser().requiresGrad(false).eval();
  copyWeights(ema, denoiser);
  const { lr, betas, adamEps: eps } = options;
  const settings = { lr, betas, eps };
  const optimizer =
    options.optimizer === 'muon'
      ? new Muon(denoiser.namedParameters(), { ...settings, isMatrix: isBlockWeight })
      : new Adam(denoiser.namedParameters(), settings);
  const lossScale = options.lossScaling === 'dynamic' ? new DynamicLossScale() : null;
  const powerAverages = options.powerEma ? new PowerAverages(denoiser) : null;
  const noise = countsLevels(options) ? new NoiseHistogram() : null;
  return { denoiser, ema, optimizer, lossScale, powerAverages, noise, nimg: 0, step: 0 };
}

/** Whether noise levels are drawn or weighed by the losses so far. */
function countsLevels({ sigmaSampling, sizesByNoise, lossWeights }: TrainOptions): boolean {
  return sigmaSampling === 'info' || sizesByNoise || lossWeights === 'even';
}

/** What the losses so far decide. */
function byLosses(
  options: TrainOptions,
  dataset: DataSet,
  histogram: NoiseHistogram | null | undefined,
): Pick<UpdateSource, 'noiseLevels' | 'evenWeights'> {
  const loss = lossSpec(options, dataset);
  if (!histogram || loss.type !== 'edm') return {};
  const { sizesByNoise: bySize, lossWeights } = options;
  const byInformation = options.sigmaSampling === 'info';
  return {
    noiseLevels:
      byInformation || bySize ? new NoiseLevels(histogram, { ...loss, byInformation, bySize }) : null,
    evenWeights: lossWeights === 'even' ? new EvenWeights(histogram, loss.sigmaData) : null,
  };
}

/** Candidates for the noise, up to the cooldown: the network shall end as the denoiser of independent noise. */
function candidateStream(
  { immiscible: count, seed, lrCooldown }: TrainOptions,
  device: torch.Device,
): CandidateStream | null {
  if (count === null || count === 1) return null;
  return new CandidateStream({ count, seed, until: 1 - lrCooldown, device });
}

function stepOptions(options: TrainOptions, source: DataSet, device: torch.Device): StepOptions {
  const pipeline = augmentSpec(options);
  return {
    ...options,
    ...{ source, device, loss: lossSpec(options, source) },
    lossScaling: options.lossScaling === 'dynamic' ? 1 : options.lossScaling,
    augment: pipeline && createAugment(pipeline),
    countLevels: countsLevels(options) || (options.tensorboard && options.objective === 'denoising'),
  };
}

/** The folder of a new run, or that of the earlier one as it was at the state. */
async function openFolder(
  config: TrainOptions,
  { step, nimg }: TrainingState,
  { earlier, emit, ranks }: Pick<SessionContext, 'earlier' | 'emit' | 'ranks'>,
): Promise<RunFolder> {
  const processes = ranks && isLaunched() ? ranks.worldSize : undefined;
  const init = { config, version, totalNimg: totalNimg(config), processes };
  if (!earlier) return RunFolder.create(init);
  const aside = await guarded(`resume in ${earlier.runDir}`, () => setAside(earlier.runDir, { step, nimg }));
  if (aside !== null) {
    const message = `what the run had written beyond ${nimg / 1000} kimg is now in ${aside}`;
    emit({ type: 'warning', code: 'SUPERSEDED', message });
  }
  const folder = await RunFolder.reopen(earlier.runDir, init, earlier.lock);
  await folder.update({ step, nimg });
  return folder;
}

/** Keeps `holdout` images, mirrored or not, out of training. */
async function splitDataset(
  dataset: DataSet,
  { holdout, seed }: TrainOptions,
): Promise<{ train: DataSet; heldOut: DataSet | null }> {
  if (holdout === 0) return { train: dataset, heldOut: null };
  if (holdout >= dataset.baseLength) {
    throw new UserError(
      'HOLDOUT_TOO_LARGE',
      `--holdout ${holdout} leaves nothing to train on (${dataset.baseLength} images); choose a smaller one`,
      { exitCode: 2 },
    );
  }
  return holdOut(dataset, holdout, seed);
}

/** Starts from the weights of another network. */
async function transfer(
  from: string,
  { denoiser, ema }: TrainingState,
  { signal, emit }: Pick<SessionContext, 'signal' | 'emit'>,
): Promise<void> {
  const name = withoutSecrets(from);
  const report = await transferWeights(denoiser, from, {
    signal,
    onProgress: (doneBytes, totalBytes) => emit({ type: 'fetch', from: name, doneBytes, totalBytes }),
    onNote: (message) => emit({ type: 'warning', code: 'CACHED_COPY', message }),
  });
  copyWeights(ema, denoiser);
  emit({ type: 'transfer', message: transferSummary(report, name), details: transferDetails(report) });
}

async function resume(
  { runDir, state, info }: EarlierRun,
  resumable: Resumable,
  allowDataChange: boolean,
  emit: TrainEventListener,
): Promise<void> {
  const length = await readTrainingState(state, resumable, allowDataChange);
  const now = resumable.order.length;
  if (length !== now) {
    const message = `the data has ${now} images, and had ${length} when ${state} was saved; their order begins anew`;
    emit({ type: 'warning', code: 'DATA_CHANGED', message });
  }
  if (info.isGood ?? true) return;
  const good = await lastGoodState(runDir);
  const remedy = good === null ? 'start a new run' : `use the last good state: --resume ${good}`;
  const message = `${state} was saved after updates with NaN or infinite values; if it does not recover, lower --lr and ${remedy}`;
  emit({ type: 'warning', code: 'BAD_STATE', message });
}

/** Continues from a state of the official trainer, in a run folder of its own. */
async function resumeImported(
  options: TrainOptions,
  { state, counters }: Resumable,
  emit: TrainEventListener,
): Promise<void> {
  const file = options.resume!;
  if (options.optimizer !== 'adam')
    throw usageError(
      'BAD_OPTION',
      `${file} has the state of Adam; leave out --optimizer ${options.optimizer}`,
    );
  const unused = await restoreImported(file, state);
  checkUnfinished(file, state.nimg, options);
  counters.tickStartNimg = state.nimg;
  if (!unused.length) return;
  const message = `${file}: ${unused.join(', ')} not used without augmentation`;
  emit({ type: 'warning', code: 'UNUSED_TENSORS', message });
}
