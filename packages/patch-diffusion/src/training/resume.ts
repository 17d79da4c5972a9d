/** Taking over an earlier run: first its lock, then its state, which another process may just have written. */

import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { TrainOptions } from '../config/train-options.js';
import { importedNetwork } from '../interchange/imported-state.js';
import { RunLock } from '../run/run-lock.js';
import { findResume } from '../run/runs.js';
import { readStateInfo } from './checkpoint.js';

/** A run to go on with, locked for this process. */
export interface EarlierRun {
  readonly runDir: string;
  readonly state: string;
  /** The caller releases it. */
  readonly lock: RunLock;
}

/** Length of a run in images. */
export const totalNimg = ({ durationKimg }: TrainOptions): number =>
  Math.max(Math.round(durationKimg * 1000), 1);

/**
 * The run that `resume` names, or null for a new run (also one from an imported state).
 * @throws {UserError} when there is none, when it is in use, and when it is done
 */
export async function claimEarlierRun(options: TrainOptions): Promise<EarlierRun | null> {
  const { resume, out } = options;
  if (resume === null || (await importedNetwork(resume)) !== null) return null;
  const { runDir } = await findResume(resume, out);
  const lock = await guarded(`go on in ${runDir}`, () => RunLock.acquire(runDir));
  try {
    const { state, json } = await findResume(resume, out);
    const { nimg } = await readStateInfo(state);
    // One that failed or was killed after its last update still lacks files.
    if (json.status === 'done') checkUnfinished(runDir, nimg, options);
    return { runDir, state, lock };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** @throws {UserError} (exit code 2) when nothing is left to train */
export function checkUnfinished(what: string, nimg: number, options: TrainOptions): void {
  if (nimg < totalNimg(options)) return;
  throw new UserError(
    'ALREADY_DONE',
    `${what} is done (${nimg / 1000} kimg); give a larger --duration-kimg to go on`,
    { exitCode: 2 },
  );
}
