/**
 * The training loop (Patch Diffusion, algorithm 1, on EDM's trainer). It knows no particular network; everything that
 * watches a run listens to its events.
 */

import { UserError } from '../common/errors.js';
import { explainMemory, withMemoryGuard } from '../common/memory.js';
import type { TrainOptions } from '../config/train-options.js';
import { resolveDevice, resolvePrecision } from '../diffusion/device.js';
import { openTrainingData } from './data.js';
import {
  type EndEvent,
  ListenerError,
  type StartEvent,
  type TrainEvent,
  type TrainEventListener,
} from './events.js';
import { runMaintenance, writeMissing } from './maintenance.js';
import { nextUpdate } from './next-update.js';
import { openSession } from './open-session.js';
import { claimEarlierRun } from './resume.js';
import type { Session } from './session.js';
import { lastGoodState } from './state-files.js';
import { type StepResult, trainStep } from './step.js';

export interface TrainContext {
  /** Stops the run after the current update, with its state saved. */
  readonly signal?: AbortSignal;
  readonly onEvent?: TrainEventListener;
}

export interface TrainResult {
  readonly runDir: string;
  /** The newest snapshot, or null when none was written. */
  readonly snapshot: string | null;
  /** Images trained on, as the paper counts them. */
  readonly nimg: number;
  readonly interrupted: boolean;
}

/** Updates in a row with a non-finite gradient after which a run gives up. */
const MAX_BAD_STEPS = 20;

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
  const options = { ...given, precision };
  const emit = (event: TrainEvent) => {
    try {
      context.onEvent?.(event);
    } catch (cause) {
      throw new ListenerError(event.type, cause);
    }
  };
  return withMemoryGuard(MEMORY_REMEDY, async () => {
    const earlier = await claimEarlierRun(options);
    try {
      const dataset = await openTrainingData(options, { signal: context.signal, emit });
      try {
        const session = await openSession(options, dataset, { earlier, signal: context.signal, emit });
        return await runSession(session, context, emit);
      } finally {
        await dataset.close();
      }
    } finally {
      await earlier?.lock.release();
    }
  });
}

async function runSession(
  session: Session,
  { signal }: TrainContext,
  emit: TrainEventListener,
): Promise<TrainResult> {
  const { state } = session;
  const { folder } = session.parts;
  try {
    emit(startEvent(session));
    const reason = await trainUntilDone(session, emit, signal);
    await folder.close(reason === 'interrupted' ? 'interrupted' : 'done');
    const snapshot = session.newestSnapshot;
    const totalSec = session.totalSec();
    emit({ type: 'end', reason, runDir: folder.dir, snapshot, totalSec, ...session.progress() });
    return { runDir: folder.dir, snapshot, nimg: state.nimg, interrupted: reason === 'interrupted' };
  } catch (caught) {
    const error = explainMemory(caught, MEMORY_REMEDY);
    await folder.close('failed', (error as Error).message).catch(() => {});
    throw error;
  } finally {
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
  const { folder, updates, step } = session.parts;
  await writeMissing(session, emit, signal);
  if (session.isDone()) return 'duration';
  let badSteps = 0;
  for (;;) {
    const begin = performance.now();
    const update = await nextUpdate(updates, session.shareDone());
    const result = await trainStep(state, update, step);
    session.trainSec += (performance.now() - begin) / 1000;
    session.record(result);

    // Dynamic loss scaling finds its factor by overflows; those at the smallest factor have another cause.
    const isBad = !Number.isFinite(result.gradNorm) && (!result.skipped || state.lossScale!.isLowest);
    badSteps = isBad ? badSteps + 1 : 0;
    if (isBad) session.gradientsAreGood = false;
    if (isBad) emit({ type: 'warning', code: 'NON_FINITE_GRADIENT', message: nonFiniteMessage(state.step) });
    if (badSteps >= MAX_BAD_STEPS) throw diverged(badSteps, await lastGoodState(folder.dir));
    emit(stepEvent(session, result));

    // Signals, heartbeats and decoders are handled here.
    await new Promise(setImmediate);
    const reason = endReason(session, signal);
    await runMaintenance(session, emit, reason, signal);
    if (reason) return reason;
  }
}

/** Why the run ends after this update, or null. A run interrupted in its last update is done. */
function endReason(session: Session, signal: AbortSignal | undefined): EndEvent['reason'] | null {
  const { maxSec } = session.options;
  if (session.isDone()) return 'duration';
  if (signal?.aborted) return 'interrupted';
  return maxSec !== null && session.sessionSec() >= maxSec ? 'time' : null;
}

function startEvent(session: Session): StartEvent {
  const { options, state, parts } = session;
  const { name, path, length, channels, height, width, labelDim } = parts.dataset;
  return {
    type: 'start',
    ...session.progress(),
    runDir: parts.folder.dir,
    options,
    dataset: { name, path, length, channels, height, width, labelDim, labels: parts.labels },
    patches: parts.updates.schedule.sizes,
    schedule: parts.updates.schedule,
    parameters: state.denoiser.numParams(),
    device: parts.resumable.device,
    resumedFrom: parts.resumedFrom,
  };
}

function stepEvent(session: Session, { losses, lr, gradNorm }: StepResult): TrainEvent {
  const total = (key: 'count' | 'elements' | 'sum') => losses.reduce((sum, loss) => sum + loss[key], 0);
  return {
    type: 'step',
    ...session.progress(),
    patchSizePx: Math.max(...losses.map(({ patch }) => Math.max(patch.height, patch.width))),
    batch: total('count'),
    loss: total('sum') / total('elements'),
    lr,
    gradNorm,
    imagesPerSec: session.imagesPerSec(),
    etaSec: session.etaSec(),
  };
}

function nonFiniteMessage(step: number): string {
  return `step ${step}: the gradient has NaN or infinite values, which were replaced; if this goes on, lower --lr`;
}

/** @param good the last good state, or null */
function diverged(steps: number, good: string | null): UserError {
  const remedy = good === null ? 'start again' : `continue from the last good state with --resume ${good}`;
  return new UserError(
    'DIVERGED',
    `the gradient was not finite for ${steps} updates in a row; lower --lr (or --loss-scaling) and ${remedy}`,
  );
}
