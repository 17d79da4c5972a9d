/**
 * The training loop (Patch Diffusion, algorithm 1, on EDM's trainer). It knows no particular network; everything that
 * watches a run listens to its events.
 */

import { explainMemory, withMemoryGuard } from '../common/memory.js';
import { type Trace, traced } from '../common/trace.js';
import { checkBatch } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { resolveDevice, resolvePrecision } from '../diffusion/device.js';
import type { Ranks } from '../distributed/ranks.js';
import { type Agreement, agree, ownWishes, type Wishes } from './agree.js';
import { openTrainingData } from './data.js';
import type { Evaluator } from './evaluator.js';
import {
  type EndEvent,
  ListenerError,
  type StartEvent,
  type TrainEvent,
  type TrainEventListener,
} from './events.js';
import { catchUp, isMaintenanceDue, runMaintenance } from './maintenance.js';
import { nextUpdate } from './next-update.js';
import { openSession } from './open-session.js';
import { seedDropout } from './random-streams.js';
import { claimEarlierRun } from './resume.js';
import type { Session } from './session.js';
import { checkSameData, shareOptions } from './share-state.js';
import { type MicroBatchLoss, type StepResult, startStep, type Update } from './step.js';
import { UpdateResults } from './update-results.js';

export interface TrainContext {
  /** Stops the run after the current update, with its state saved. */
  readonly signal?: AbortSignal;
  readonly onEvent?: TrainEventListener;
  /** The processes that train together; all call this function with the same options. */
  readonly ranks?: Ranks | null;
  /** Judges snapshots every `evalTicks`; the library's `train` and the command line supply it. */
  readonly evaluator?: Evaluator | undefined;
  /** Gets where the time goes. */
  readonly trace?: Trace;
}

export interface TrainResult {
  readonly runDir: string;
  /** The newest snapshot, or null when none was written. */
  readonly snapshot: string | null;
  /** Images trained on, as the paper counts them. */
  readonly nimg: number;
  readonly interrupted: boolean;
}

const MEMORY_REMEDY =
  'lower --batch-gpu (the same --batch then takes more rounds), or use a smaller --model-channels or --resolution';

/**
 * Trains a denoiser and writes a run folder.
 * @param given options from {@link resolveTrainOptions}
 * @throws UserError for what the user can fix (data, options, disk, memory); the state on disk stays usable
 * @throws ListenerError when `context.onEvent` throws; the run folder is closed as failed
 */
export async function train(given: TrainOptions, context: TrainContext = {}): Promise<TrainResult> {
  // The run records what `auto` became, so that it is resumed in the same precision.
  const precision = resolvePrecision(given.precision, resolveDevice(given.device));
  const { ranks = null, trace = null } = context;
  const options = await withRanks(ranks, { ...given, precision });
  const emit = (event: TrainEvent) => {
    try {
      context.onEvent?.(event);
    } catch (cause) {
      throw new ListenerError(event.type, cause);
    }
  };
  return withMemoryGuard(MEMORY_REMEDY, async () => {
    const earlier = ranks && !ranks.isWriter ? null : await claimEarlierRun(options, emit);
    try {
      const dataset = await openTrainingData(options, { signal: context.signal, emit });
      try {
        if (ranks) await checkSameData(ranks, dataset);
        const { signal } = context;
        const session = await openSession(options, dataset, {
          ...{ earlier, ranks, trace, signal, emit },
          evaluator: context.evaluator ?? null,
        });
        return await runSession(session, context, emit);
      } finally {
        await dataset.close();
      }
    } finally {
      await earlier?.lock.release();
    }
  });
}

/** Options of all ranks. @throws UserError (exit code 2) where the batch cannot be shared, or the options differ */
async function withRanks(ranks: Ranks | null, options: TrainOptions): Promise<TrainOptions> {
  if (!ranks) return options;
  checkBatch(options, ranks.worldSize);
  return shareOptions(ranks, options);
}

async function runSession(
  session: Session,
  { signal }: TrainContext,
  emit: TrainEventListener,
): Promise<TrainResult> {
  const { state } = session;
  const { folder, runDir, trackers } = session.parts;
  const track: TrainEventListener = (event) => {
    trackers?.onEvent(event);
    emit(event);
  };
  try {
    track(startEvent(session));
    const reason = await trainUntilDone(session, track, signal);
    await folder?.close(reason === 'interrupted' ? 'interrupted' : 'done', reason);
    const snapshot = session.newestSnapshot;
    const { totalSec } = session.clock.progress;
    emit({ type: 'end', reason, runDir, snapshot, totalSec, ...session.progress() });
    return { runDir, snapshot, nimg: state.nimg, interrupted: reason === 'interrupted' };
  } catch (caught) {
    const error = explainMemory(caught, MEMORY_REMEDY);
    await folder?.fail(error).catch(() => {});
    throw error;
  } finally {
    await trackers?.close();
    session.dispose();
  }
}

/** Update after update; once per tick, statistics and files. */
async function trainUntilDone(
  session: Session,
  emit: TrainEventListener,
  signal: AbortSignal | undefined,
): Promise<EndEvent['reason']> {
  const { state } = session;
  const { updates, step, ranks, trackers } = session.parts;
  const { trace, readsLater } = step;
  // A rank that is lost ends the run; a sheet is not finished first.
  const giveUp = ranks ? AbortSignal.any([ranks.gone, ...(signal ? [signal] : [])]) : signal;
  await catchUp(session, emit, giveUp);
  if (session.isDone()) return 'duration';
  const results = new UpdateResults(session, emit);
  for (;;) {
    const endUpdate = session.clock.beginUpdate();
    const begin = performance.now();
    const update = await traced(trace, 'data', () =>
      nextUpdate(updates, { progress: session.shareDone(), step: state.step }, emit),
    );
    if (ranks) seedDropout(session.options.seed, state.step, ranks.rank);
    const { finish, agreed } = await startUpdate(session, update, { begin, signal });
    // Signals, heartbeats and decoders are handled here.
    await new Promise(setImmediate);
    const reason = endReason(session, agreed ?? ownWishes(session, signal));
    results.add(update, finish);
    // A GPU is given the next update before anyone waits for this one.
    const goesOn = readsLater && !isMaintenanceDue(session, reason !== null);
    const take = await results.until(goesOn ? 1 : 0);
    endUpdate();
    await take();
    if (agreed && ranks?.isWriter) results.lookAtRanks(agreed.busyMs);
    await traced(trace, 'maintenance', () => runMaintenance(session, emit, reason, giveUp));
    await trackers?.flush(emit);
    if (reason) return reason;
  }
}

/** Starts an update; several ranks agree on how it ends. @param begin when this rank began to work on it */
async function startUpdate(
  session: Session,
  update: Update,
  { begin, signal }: { readonly begin: number; readonly signal: AbortSignal | undefined },
): Promise<{ readonly finish: () => Promise<StepResult>; readonly agreed?: Agreement }> {
  const { ranks, step } = session.parts;
  if (!ranks) return { finish: await startStep(session.state, update, step) };
  let agreed: Agreement | undefined;
  const shareLosses = async (losses: readonly MicroBatchLoss[]) => {
    const busyMs = performance.now() - begin;
    agreed = await agree(ranks, session, { losses, busyMs, signal });
    return agreed.losses;
  };
  const finish = await startStep(session.state, update, { ...step, shareLosses });
  return { finish, agreed };
}

/** Why the run ends after this update, or null. A run interrupted in its last update is done. */
function endReason(
  session: Session,
  { isInterrupted, isTimeUp, isStopped }: Wishes,
): EndEvent['reason'] | null {
  if (session.isDone()) return 'duration';
  if (isInterrupted) return 'interrupted';
  if (isStopped) return 'memorising';
  return isTimeUp ? 'time' : null;
}

function startEvent(session: Session): StartEvent {
  const { options, state, parts } = session;
  const { name, path, length, channels, height, width, labelDim } = parts.dataset;
  return {
    type: 'start',
    ...session.progress(),
    runDir: parts.runDir,
    options,
    dataset: { name, path, length, channels, height, width, labelDim, labels: parts.labels },
    patches: parts.updates.schedule.sizes,
    schedule: parts.updates.schedule,
    parameters: state.denoiser.numParams(),
    device: parts.resumable.device,
    resumedFrom: parts.resumedFrom,
  };
}
