/**
 * The training loop (Patch Diffusion, algorithm 1, on EDM's trainer). It knows no particular network; everything that
 * watches a run listens to its events.
 */
import type { TrainOptions } from '../config/train-options.js';
import type { DataSet } from '../data/types.js';
import { UserError } from '../errors.js';
import { openTrainingData } from './data.js';
import type { TrainEvent, TrainEventListener, TrainProgress } from './events.js';
import { runMaintenance } from './maintenance.js';
import { openSession } from './open-session.js';
import { nextUpdate } from './rounds.js';
import type { Session } from './session.js';
import { trainStep } from './step.js';

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

/**
 * Trains a denoiser and writes a run folder.
 * @param options from {@link resolveTrainOptions}
 * @throws UserError for what the user can mend (data, options, disk, memory); the state on disk stays usable
 */
export async function train(options: TrainOptions, context: TrainContext = {}): Promise<TrainResult> {
  const emit = (event: TrainEvent) => context.onEvent?.(event);
  const images = await openTrainingData(options, { signal: context.signal, emit });
  try {
    return await trainOn(images, options, context, emit);
  } catch (error) {
    throw explainMemory(error);
  } finally {
    await images.close();
  }
}

async function trainOn(
  images: DataSet,
  options: TrainOptions,
  context: TrainContext,
  emit: TrainEventListener,
): Promise<TrainResult> {
  const session = await openSession(options, images, emit);
  try {
    const reason = await trainUntilDone(session, context, emit);
    const status = reason === 'interrupted' ? 'interrupted' : 'done';
    await session.folder.close(status);
    const { newestSnapshot: snapshot, folder, state } = session;
    emit({
      type: 'end',
      reason,
      runDir: folder.dir,
      snapshot,
      totalSec: session.totalSec(),
      ...session.progress(),
    });
    return { runDir: folder.dir, snapshot, nimg: state.nimg, interrupted: reason === 'interrupted' };
  } catch (error) {
    await session.folder.close('failed', (error as Error).message).catch(() => {});
    throw error;
  } finally {
    session.dispose();
  }
}

/** The loop proper: update, report, and once per tick look after samples, snapshots and states. */
async function trainUntilDone(session: Session, { signal }: TrainContext, emit: TrainEventListener) {
  const { options, state } = session;
  let badSteps = 0;
  for (;;) {
    const begin = performance.now();
    const result = trainStep(state, await nextUpdate(session.rounds, session.shareDone()), session.step);
    session.timing.trainSec += (performance.now() - begin) / 1000;
    session.record(result);

    // Dynamic loss scaling finds its factor by overflows; those at the smallest factor have another cause.
    const isBad = !Number.isFinite(result.gradNorm) && (!result.skipped || state.lossScale!.isLowest);
    badSteps = isBad ? badSteps + 1 : 0;
    if (isBad) emit({ type: 'warning', code: 'NON_FINITE_GRADIENT', message: nonFiniteMessage(state.step) });
    if (badSteps >= MAX_BAD_STEPS) throw diverged(badSteps);
    emit(stepEvent(session, result));

    const isTimeUp = options.maxSec !== null && session.sessionSec() >= options.maxSec;
    const reason = signal?.aborted
      ? ('interrupted' as const)
      : state.nimg >= session.totalNimg
        ? ('duration' as const)
        : isTimeUp
          ? ('time' as const)
          : null;
    await runMaintenance(session, emit, reason, signal);
    if (reason) return reason;
    // Lets signals, heartbeats and decoders have their turn.
    await new Promise(setImmediate);
  }
}

function stepEvent(session: Session, result: ReturnType<typeof trainStep>): TrainEvent {
  const { rounds, lr, gradNorm } = result;
  const elements = rounds.reduce((sum, { lossSum, lossMean }) => sum + lossSum / lossMean, 0);
  const progress: TrainProgress = session.progress();
  return {
    type: 'step',
    ...progress,
    patchSizePx: Math.max(...rounds.map(({ patch }) => Math.max(patch.height, patch.width))),
    batch: rounds.reduce((sum, { count }) => sum + count, 0),
    loss: rounds.reduce((sum, { lossSum }) => sum + lossSum, 0) / elements,
    lr,
    gradNorm,
    imagesPerSec: session.imagesPerSec(),
    etaSec: session.etaSec(),
  };
}

function nonFiniteMessage(step: number): string {
  return `step ${step}: the gradient has NaN or infinite values, which were replaced; if this goes on, lower --lr`;
}

function diverged(steps: number): UserError {
  return new UserError(
    'DIVERGED',
    `the gradient was not finite for ${steps} updates in a row; lower --lr (or --loss-scaling) and go on from an earlier state with --resume FILE`,
  );
}

/** An allocation failure names the options that need less. */
function explainMemory(error: unknown): unknown {
  const text = error instanceof Error ? error.message : '';
  if (!/out of memory|can't allocate memory|not enough memory|Array buffer allocation failed/i.test(text))
    return error;
  return new UserError(
    'OUT_OF_MEMORY',
    'out of memory; lower --batch-gpu (the same --batch then takes more rounds), or use a smaller --model-channels or --resolution',
    { cause: error },
  );
}
