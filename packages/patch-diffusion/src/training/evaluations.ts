/** Evaluations at the ticks of a run, and the end of a run that memorises. */
import { UserError } from '../common/errors.js';
import { bestSnapshot } from '../run/evaluations.js';
import { readSnapshotInfo } from '../run/snapshot-info.js';
import type { Evaluator, Verdict } from './evaluator.js';
import type { TrainEventListener } from './events.js';
import type { Session } from './session.js';

/** A gap between held-out and training loss above it counts as memorising once it rises. */
const GAP = 0.03;
/** Evaluations in a row over which the gap rises. */
const RISING = 3;

/** Evaluates the newest snapshot. What goes wrong is a warning: the run goes on. */
export async function evaluateNewest(
  evaluator: Evaluator,
  session: Session,
  emit: TrainEventListener,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { parts, newestSnapshot: file } = session;
  if (file === null) return;
  const begin = performance.now();
  const { runDir, heldOut, decoder, updates, resumable } = parts;
  try {
    const verdict = await evaluator(
      {
        ...{ runDir, file, heldOut, decoder, training: updates.dataset, device: resumable.device },
        ...{ info: await readSnapshotInfo(file), denoiser: session.state.ema },
      },
      { signal, onProgress: (what, done, total) => emit({ type: 'evaluating', what, done, total }) },
    );
    for (const message of verdict.warnings) {
      if (session.said.has(message)) continue;
      session.said.add(message);
      emit({ type: 'warning', code: 'EVALUATION', message });
    }
    const { figures } = verdict;
    emit({
      type: 'evaluation',
      ...session.progress(),
      ...{ file, figures, isBest: (await bestSnapshot(runDir))?.file === file },
      sec: (performance.now() - begin) / 1000,
    });
    watchMemorising(session, figures, emit);
  } catch (error) {
    if (signal?.aborted) return;
    if (!(error instanceof UserError)) throw error;
    const message = `could not evaluate ${file}: ${error.message}; the run continues`;
    emit({ type: 'warning', code: 'EVALUATION_FAILED', message });
  }
}

/** Asks for the end of a run that memorises, with `stopOnMemorising`. */
function watchMemorising(session: Session, figures: Verdict['figures'], emit: TrainEventListener): void {
  const { lossGap, memorised } = figures;
  if (lossGap) session.lossGaps.push(lossGap.value);
  if (!session.options.stopOnMemorising) return;
  const reason = memorisingReason(session.lossGaps, memorised);
  if (reason === null) return;
  session.stopRequested = true;
  emit({ type: 'warning', code: 'MEMORISING', message: `the run ends: ${reason}` });
}

/**
 * Why a run memorises, or null.
 * @param gaps relative gaps of held-out and training loss, oldest evaluation first
 * @param memorised share of samples that are copies, and what held-out images score
 */
export function memorisingReason(
  gaps: readonly number[],
  memorised: { readonly low: number; readonly floor: number | null } | undefined,
): string | null {
  if (memorised && memorised.low > (memorised.floor ?? 0)) return 'its samples are copies of training images';
  const last = gaps.slice(-RISING);
  const isRising = last.length === RISING && last.every((gap, k) => k === 0 || gap > last[k - 1]);
  if (!isRising || last[RISING - 1] <= GAP) return null;
  const percent = (100 * last[RISING - 1]).toFixed(1);
  return `the loss on held-out images is ${percent} % above that on training images, and rises against it`;
}
