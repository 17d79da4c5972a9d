/**
 * What happens between updates: statistics once per tick, states, snapshots, sample sheets. A file that cannot be written
 * does not end the run: it is tried again at the next tick.
 */
import { rm, stat } from 'node:fs/promises';
import { explainMemory } from '../common/memory.js';
import { gridPng, type SheetShape } from '../data/sheet.js';
import { sampleImages } from '../diffusion/sample.js';
import { writeSnapshot } from '../interchange/snapshot.js';
import { toPixels } from '../latents/latents.js';
import { listStates } from '../run/runs.js';
import { writeTrainingState } from './checkpoint.js';
import type { EndEvent, TrainEventListener } from './events.js';
import { reportTick } from './report.js';
import type { Output, Session } from './session.js';

/** A state is large; the newest ones are kept. */
const STATES_KEPT = 2;

const SHEET_MEMORY_REMEDY = 'lower --batch-gpu or --samples';

type Job = readonly [Output, () => Promise<void>];

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
  const isTick = state.step === 1 || isEnd || state.nimg >= tickStartNimg + options.tickKimg * 1000;
  const isSheetTime = options.sampleSec !== null && secondsSince(session.lastSheetAt) >= options.sampleSec;
  if (!isTick && !isSheetTime) return;

  const begin = performance.now();
  const due = (output: Output, interval: number | null) =>
    isTick && (session.overdue.has(output) || (interval !== null && tick > 0 && tick % interval === 0));
  if (isTick) Object.assign(counters, { tick: tick + 1, tickStartNimg: state.nimg });
  const isSheetDue =
    ending !== 'interrupted' && (isEnd || isSheetTime || due('sample sheet', options.sampleTicks));
  const isDue: Record<Output, boolean> = {
    statistics: isTick,
    state: isEnd || due('state', options.stateTicks),
    snapshot: isEnd || due('snapshot', options.snapshotTicks),
    'sample sheet': isSheetDue,
  };
  const jobs: Job[] = [
    [
      'statistics',
      () => reportTick(session, emit, { tick, tickStartNimg, heldOut: ending !== 'interrupted' }),
    ],
    // The last sheet belongs to a finished run; a signal does not stop it.
    ...fileJobs(session, emit, isEnd ? undefined : signal),
  ];
  await runJobs(
    jobs.filter(([output]) => isDue[output]),
    session,
    emit,
    isEnd,
  );
  session.maintenanceSec += secondsSince(begin);
}

/** Writes the last state, snapshot and sheet of a run whose training is done. */
export async function finishFiles(session: Session, emit: TrainEventListener): Promise<void> {
  await runJobs(fileJobs(session, emit), session, emit, true);
}

/** Files, the most valuable first. */
function fileJobs(session: Session, emit: TrainEventListener, signal?: AbortSignal): Job[] {
  return [
    ['state', () => saveState(session, emit)],
    ['snapshot', () => saveSnapshot(session, emit)],
    ['sample sheet', () => writeSamples(session, emit, signal)],
  ];
}

/** Runs the jobs in their order; after a failure the others still run. */
async function runJobs(
  jobs: readonly Job[],
  session: Session,
  emit: TrainEventListener,
  isEnd: boolean,
): Promise<void> {
  const failures: unknown[] = [];
  for (const [output, run] of jobs) {
    try {
      await run();
      session.overdue.delete(output);
    } catch (caught) {
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
  const { decoder, folder, resumable, updates } = session.parts;
  const begin = performance.now();
  session.lastSheetAt = begin;
  const total = options.samples;
  const seeds = Array.from({ length: total }, (_, seed) => seed);
  const parts: Uint8Array[] = [];
  let shape: SheetShape = [0, 0, 0, 0];
  for (let done = 0; done < total; done += updates.batchGpu) {
    const batch = await sampleImages(state.ema, {
      seeds: seeds.slice(done, done + updates.batchGpu),
      numSteps: options.sampleSteps,
      sChurn: options.sampleChurn,
      device: resumable.device,
      onStep: async (step, numSteps) => {
        emit({ type: 'sampling', done, total, step, numSteps });
        await new Promise(setImmediate);
      },
      signal,
    })
      .then((samples) => toPixels(samples, decoder, signal))
      .catch((error: unknown) => {
        // A signal ends the run after the next update; the sheet is given up.
        if (signal?.aborted) return null;
        throw error;
      });
    if (!batch) return;
    parts.push(batch.pixels);
    const [, ...size] = batch.shape;
    shape = [total, ...size];
  }
  const pixels = Buffer.concat(parts);
  const name = `fakes-${fileStamp(session)}.png`;
  const file = await folder.writeFile('samples', name, await gridPng(pixels, shape));
  session.lastSheetAt = performance.now();
  emit({ type: 'samples', ...session.progress(), file, pixels, shape, sec: secondsSince(begin) });
}

/** Writes a snapshot of the averaged weights. */
async function saveSnapshot(session: Session, emit: TrainEventListener): Promise<void> {
  const { options, state, parts } = session;
  const { dataset, folder, step } = parts;
  const file = folder.file('snapshots', `network-snapshot-${fileStamp(session)}.safetensors`);
  await writeSnapshot(file, state.ema, {
    loss: step.loss,
    train: options,
    dataset: { name: dataset.name, classNames: dataset.classNames },
    latents: dataset.latents,
    nimg: state.nimg,
    step: state.step,
  });
  session.newestSnapshot = file;
  emit({ type: 'snapshot', ...session.progress(), file, bytes: (await stat(file)).size });
}

/** Writes the complete state; older ones are removed. */
async function saveState(session: Session, emit: TrainEventListener): Promise<void> {
  const { folder, resumable } = session.parts;
  const file = folder.file('state', `training-state-${fileStamp(session)}.safetensors`);
  const counters = { ...resumable.counters, earlierSec: session.totalSec() };
  await writeTrainingState(file, { ...resumable, counters });
  emit({ type: 'state', ...session.progress(), file, bytes: (await stat(file)).size });
  const others = (await listStates(session.parts.folder.dir)).filter((other) => other !== file);
  for (const old of others.slice(0, 1 - STATES_KEPT)) await rm(old, { force: true });
}

/** The number in the names of a run's files, in kimg. */
function fileStamp({ state }: Session): string {
  return String(Math.floor(state.nimg / 1000)).padStart(6, '0');
}

function secondsSince(time: number): number {
  return (performance.now() - time) / 1000;
}
