/**
 * What happens between updates: statistics once per tick, states, snapshots, sample sheets. A file that cannot be written
 * does not end the run: it is tried again at the next tick.
 */
import { stat } from 'node:fs/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { guarded } from '../common/file-error.js';
import { explainMemory } from '../common/memory.js';
import { traced } from '../common/trace.js';
import type { TrainOptions } from '../config/train-options.js';
import { withPngText } from '../data/png.js';
import { type LabelRecord, labelRecord, sheetText } from '../data/sample-labels.js';
import { gridPng, type SheetShape } from '../data/sheet.js';
import { sampleImages } from '../diffusion/sample.js';
import { writeSnapshot } from '../interchange/snapshot.js';
import { writeAverages } from '../interchange/stored-averages.js';
import { toPixels } from '../latents/latents.js';
import { fileStamp } from '../run/file-names.js';
import { newestSnapshot, newestState } from '../run/runs.js';
import { LATER_OUTPUTS, type LaterOutput, writeTrainingState } from './checkpoint.js';
import { evaluateNewest } from './evaluations.js';
import { type EndEvent, ListenerError, type TrainEventListener } from './events.js';
import { reportTick } from './report.js';
import type { Output, Session } from './session.js';
import { checkSameWeights } from './share-state.js';
import { removeOldSnapshots } from './snapshot-files.js';
import { removeOldStates } from './state-files.js';

const SHEET_MEMORY_REMEDY = 'lower --batch-gpu or --samples';

type FileOutput = Exclude<Output, 'statistics'>;

/** What the clock and the count of images ask for after an update. @param isEnd whether the run ends with it */
function whatIsDue({ options, state, parts, lastSheetAt, lastSaveAt }: Session, isEnd: boolean) {
  const { tickStartNimg } = parts.resumable.counters;
  return {
    isTick: state.step === 1 || isEnd || state.nimg >= tickStartNimg + options.tickKimg * 1000,
    isSheetTime: options.sampleSec !== null && secondsSince(lastSheetAt) >= options.sampleSec,
    isSaveTime: options.snapshotSec !== null && secondsSince(lastSaveAt) >= options.snapshotSec,
  };
}

/** Whether {@link runMaintenance} will have something to do. */
export function isMaintenanceDue(session: Session, isEnd: boolean): boolean {
  return Object.values(whatIsDue(session, isEnd)).includes(true);
}

/**
 * Does what is due.
 * @param ending why the run ends with this update, or null when it continues
 * @throws the first failure when the run ends
 */
export async function runMaintenance(
  session: Session,
  emit: TrainEventListener,
  ending: EndEvent['reason'] | null,
  signal?: AbortSignal,
): Promise<void> {
  const { options, state } = session;
  const { counters } = session.parts.resumable;
  const isEnd = ending !== null;
  const { tick, tickStartNimg } = counters;
  const { isTick, isSheetTime, isSaveTime } = whatIsDue(session, isEnd);
  if (!isTick && !isSheetTime && !isSaveTime) return;

  const begin = performance.now();
  const { ranks, folder } = session.parts;
  const isWrite = (interval: number | null) => interval !== null && tick > 0 && tick % interval === 0;
  const isCheck = isEnd || isWrite(options.stateTicks) || isWrite(options.snapshotTicks);
  if (isTick) Object.assign(counters, { tick: tick + 1, tickStartNimg: state.nimg });
  if (ranks && isTick && isCheck) await checkSameWeights(ranks, session.parts.resumable);
  if (!folder) {
    if (isTick) session.stats.take();
    return;
  }
  const due = (output: Output, interval: number | null) =>
    isTick && (session.overdue.has(output) || isWrite(interval));
  const isSheetDue =
    ending !== 'interrupted' &&
    (isEnd ? drawsSheets(options) : isSheetTime || due('sample sheet', options.sampleTicks));
  const files: FileOutput[] = [];
  if (isEnd || isSaveTime || due('state', options.stateTicks)) files.push('state');
  if (isEnd || isSaveTime || due('snapshot', options.snapshotTicks)) files.push('snapshot');
  const isEvaluationDue =
    session.parts.evaluator !== null &&
    isTick &&
    ending !== 'interrupted' &&
    (isEnd ? options.evalTicks !== null : isWrite(options.evalTicks));
  if (isEvaluationDue && !files.includes('snapshot')) files.push('snapshot');
  if (isSaveTime) session.lastSaveAt = begin;
  if (isSheetDue) files.push('sample sheet');
  const heldOut = ending !== 'interrupted';
  const jobs: Job[] = isTick
    ? [['statistics', () => reportTick(session, emit, { tick, tickStartNimg, heldOut })]]
    : [];
  // The last sheet belongs to a finished run; a signal does not stop it.
  jobs.push(...fileJobs(files, session, emit, isEnd ? undefined : signal));
  await runJobs(jobs, session, emit, isEnd);
  // Without its snapshot an evaluation would be of nothing that is there.
  if (isEvaluationDue && session.newestSnapshot === fileOf('snapshot', session))
    await evaluateNewest(session.parts.evaluator!, session, emit, signal);
  session.maintenanceSec += secondsSince(begin);
}

/** Without an interval a run draws no sheet, at its end neither. */
const drawsSheets = ({ sampleTicks, sampleSec }: TrainOptions) => sampleTicks !== null || sampleSec !== null;

/**
 * Does what an earlier process was killed before: what was due with the state that the run is resumed from is written where
 * it is not there, and older files that should be gone are removed.
 */
export async function catchUp(
  session: Session,
  emit: TrainEventListener,
  signal?: AbortSignal,
): Promise<void> {
  const isEnd = session.isDone();
  // States of earlier versions do not say what was due with them.
  const atEnd = LATER_OUTPUTS.filter((output) => output !== 'sample sheet' || drawsSheets(session.options));
  const { due = isEnd ? atEnd : [], folder } = session.parts;
  if (!folder) return;
  const isThere = await Promise.all(due.map((output) => exists(fileOf(output, session))));
  const missing = due.filter((_, i) => !isThere[i]);
  const state = await newestState(folder.dir);
  if (state !== null) await removeOldStates(folder.dir, state);
  await runJobs(fileJobs(missing, session, emit, isEnd ? undefined : signal), session, emit, isEnd);
  session.newestSnapshot ??= await newestSnapshot(folder.dir);
  await removeOldSnapshots(folder.dir, session.options, session.parts.totalNimg);
}

type Job = readonly [Output, () => Promise<void>];

/** @param files what to write, the most valuable first */
function fileJobs(
  files: readonly FileOutput[],
  session: Session,
  emit: TrainEventListener,
  signal: AbortSignal | undefined,
): Job[] {
  const later = LATER_OUTPUTS.filter((output) => files.includes(output));
  const jobs: Record<FileOutput, Job[1]> = {
    state: () => saveState(session, emit, later),
    snapshot: () => saveSnapshot(session, emit),
    'sample sheet': () => writeSamples(session, emit, signal),
  };
  return files.map((output) => [output, jobs[output]]);
}

/** Folder, name and ending. */
const FILES = {
  state: ['state', 'training-state', 'safetensors'],
  snapshot: ['snapshots', 'network-snapshot', 'safetensors'],
  'sample sheet': ['samples', 'fakes', 'png'],
} as const;

/** The file of an output at the present image count. */
function fileOf(output: FileOutput, { state, parts }: Session): string {
  const [folder, name, ending] = FILES[output];
  return parts.folder!.file(folder, `${name}-${fileStamp(state.nimg)}.${ending}`);
}

/** Runs the jobs in their order; after a failure the others still run. */
async function runJobs(
  jobs: readonly Job[],
  session: Session,
  emit: TrainEventListener,
  isEnd: boolean,
): Promise<void> {
  const { trace } = session.parts.step;
  const failures: unknown[] = [];
  for (const [output, run] of jobs) {
    try {
      await traced(trace, output, run);
      session.overdue.delete(output);
    } catch (caught) {
      if (caught instanceof ListenerError) throw caught;
      const error = explainMemory(caught, SHEET_MEMORY_REMEDY);
      failures.push(error);
      if (isEnd) continue;
      session.overdue.add(output);
      const message = `could not write the ${output}: ${(error as Error).message}; the run continues, next try at tick ${session.parts.resumable.counters.tick}`;
      emit({ type: 'warning', code: 'NOT_WRITTEN', message });
    }
  }
  if (isEnd && failures.length) throw failures[0];
}

/** Samples from the averaged weights with the same seeds every time, so that sheets can be compared. */
async function writeSamples(session: Session, emit: TrainEventListener, signal?: AbortSignal): Promise<void> {
  const { options, state } = session;
  const { dataset, decoder, labels, resumable, updates } = session.parts;
  const begin = performance.now();
  session.lastSheetAt = begin;
  const total = options.samples;
  const seeds = Array.from({ length: total }, (_, seed) => seed);
  const parts: Uint8Array[] = [];
  const records: LabelRecord[] = [];
  let shape: SheetShape = [0, 0, 0, 0];
  for (let done = 0; done < total; done += updates.batchGpu) {
    const batch = await sampleImages(state.ema, {
      seeds: seeds.slice(done, done + updates.batchGpu),
      sampler: options.sampler,
      numSteps: options.sampleSteps,
      sChurn: options.sampleChurn,
      device: resumable.device,
      labels,
      onLabels: (drawn) => records.push(...drawn.map((label) => labelRecord(label, dataset.classNames))),
      onStep: async (step, numSteps) => {
        emit({ type: 'sampling', done, total, step, numSteps });
        await new Promise(setImmediate);
      },
      signal,
    })
      .then((samples) => toPixels(samples, decoder, signal))
      .catch((error: unknown) => {
        // A signal ends the run after the next update; the sheet is given up.
        if (signal?.aborted && !(error instanceof ListenerError)) return null;
        throw error;
      });
    if (!batch) return;
    parts.push(batch.pixels);
    const [, ...size] = batch.shape;
    shape = [total, ...size];
  }
  const pixels = Buffer.concat(parts);
  const file = fileOf('sample sheet', session);
  const sheet = withPngText(await gridPng(pixels, shape), sheetText(records));
  await guarded(`write ${file}`, () => writeFileAtomic(file, sheet));
  session.lastSheetAt = performance.now();
  emit({ type: 'samples', ...session.progress(), file, png: sheet, pixels, shape, sec: secondsSince(begin) });
}

/** Writes a snapshot of the averaged weights, and before it the averages that others can be made of. */
async function saveSnapshot(session: Session, emit: TrainEventListener): Promise<void> {
  const { options, state, parts } = session;
  const { dataset, labels, step } = parts;
  const file = fileOf('snapshot', session);
  if (state.powerAverages?.time) {
    const { time, averages } = state.powerAverages;
    await writeAverages(parts.runDir, { nimg: state.nimg, time, averages });
  }
  await writeSnapshot(file, state.ema, {
    loss: step.loss,
    train: options,
    dataset: { name: dataset.name, classNames: dataset.classNames, labels },
    latents: dataset.latents,
    nimg: state.nimg,
    step: state.step,
  });
  session.newestSnapshot = file;
  emit({ type: 'snapshot', ...session.progress(), file, bytes: (await stat(file)).size });
  await removeOldSnapshots(parts.runDir, options, parts.totalNimg);
}

/**
 * Writes the complete state; older ones are removed.
 * @param due what is written after it
 */
async function saveState(
  session: Session,
  emit: TrainEventListener,
  due: readonly LaterOutput[],
): Promise<void> {
  const { runDir, resumable } = session.parts;
  const { denoiser, ema } = session.state;
  const file = fileOf('state', session);
  const counters = { ...resumable.counters, ...session.clock.counters };
  const isGood = session.gradientsAreGood && allFinite([...denoiser.parameters(), ...ema.parameters()]);
  await writeTrainingState(file, { ...resumable, counters }, { isGood, due });
  session.gradientsAreGood = true;
  emit({ type: 'state', ...session.progress(), file, bytes: (await stat(file)).size });
  await removeOldStates(runDir, file);
}

function allFinite(tensors: readonly Tensor[]): boolean {
  return torch.noGrad(() =>
    torch.scope(() => Number.isFinite(torch.stack(torch._foreachNorm(tensors)).norm().item())),
  );
}

function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

function secondsSince(time: number): number {
  return (performance.now() - time) / 1000;
}
