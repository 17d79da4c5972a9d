/**
 * Resuming: the options of a run where files have a say (a resumed run brings its own, prepared data its own size), and
 * claiming an earlier run: first its lock, then its state, which another process may just have written.
 */

import { join } from 'node:path';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { presets } from '../config/presets.js';
import { readSources } from '../config/read-values.js';
import { resolveTrainOptions, type TrainSources } from '../config/resolve.js';
import { type TrainOptions, trainFields } from '../config/train-options.js';
import { checkContents } from '../formats/file-description.js';
import { importedNetwork, networkOptions } from '../interchange/imported-state.js';
import { located } from '../run/located.js';
import { RunLock } from '../run/run-lock.js';
import { findResume, type RunJson } from '../run/runs.js';
import { readStateInfo, type StateInfo } from './checkpoint.js';
import { newestWholeState, setDamagedSnapshotAside } from './damaged-files.js';
import type { TrainEventListener } from './events.js';

/** A run to continue, locked for this process. */
export interface EarlierRun {
  readonly runDir: string;
  readonly state: string;
  readonly info: StateInfo;
  /** The caller releases it. */
  readonly lock: RunLock;
}

/** Length of a run in images. */
export const totalNimg = ({ durationKimg }: TrainOptions): number =>
  Math.max(Math.round(durationKimg * 1000), 1);

/**
 * The run that `resume` names, or null for a new run (also one from an imported state).
 * A damaged state at its end, or a damaged snapshot, is set aside.
 * @throws {UserError} when there is none, when it is in use, when it is done, and when no state of it is whole
 */
export async function claimEarlierRun(
  options: TrainOptions,
  emit: TrainEventListener,
): Promise<EarlierRun | null> {
  const { resume, out } = options;
  if (resume === null || (await importedNetwork(resume)) !== null) return null;
  const { runDir } = await findResume(resume, out);
  const lock = await guarded(`resume in ${runDir}`, () => RunLock.acquire(runDir));
  try {
    const { state: named, json } = await findResume(resume, out);
    const isNamed = named === resume;
    const { state, info } = isNamed ? await namedState(named) : await newestWholeState(runDir, emit);
    await setDamagedSnapshotAside(runDir, emit);
    // One that failed or was killed after its last update still lacks files.
    if (json.status === 'done') checkUnfinished(runDir, info.nimg, options);
    return { runDir, state, info, lock };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** `run.json` of the run that `resume` names, or null for a new run (also one from an imported state). */
export async function earlierRunJson({ resume, out }: TrainOptions): Promise<RunJson | null> {
  if (resume === null || (await importedNetwork(resume)) !== null) return null;
  return (await findResume(resume, out)).json;
}

/** @throws {UserError} when the file is damaged, or no state */
async function namedState(state: string): Promise<{ state: string; info: StateInfo }> {
  const info = await readStateInfo(state);
  await checkContents(state);
  return { state, info };
}

/** @throws {UserError} (exit code 2) when nothing is left to train */
export function checkUnfinished(what: string, nimg: number, options: TrainOptions): void {
  if (nimg < totalNimg(options)) return;
  throw new UserError(
    'ALREADY_DONE',
    `${what} is done (${nimg / 1000} kimg); give a larger --duration-kimg to continue`,
    { exitCode: 2 },
  );
}

/**
 * Resolves the options of a run.
 *
 * @throws {UserError} on wrong options, on data that is not there, and when there is nothing to resume
 */
export async function resolveRunOptions(sources: TrainSources): Promise<TrainOptions> {
  const { resume, out = trainFields.out.default! } = readSources(trainFields, sources);
  if (resume) {
    const imported = resume === 'newest' ? null : await importedNetwork(resume);
    if (imported) {
      // A new run, with the network of the state and the optimiser whose moments it holds.
      return resolveTrainOptions({
        ...sources,
        call: { optimizer: 'adam', ...networkOptions(imported, resume), ...sources.call },
      });
    }
    const { runDir, state, json } = await findResume(resume, out);
    const base = { name: join(runDir, 'run.json'), values: located(json) };
    // A folder stays a folder: its newest state is looked up once the run is locked.
    return { ...resolveTrainOptions({ ...sources, base }), resume: state === resume ? state : runDir };
  }
  const options = resolveTrainOptions(sources);
  if (options.resolution !== null || (await isPrepared(options.data))) return options;
  const preset = presets[options.preset as keyof typeof presets];
  return resolveTrainOptions({ call: { ...options, resolution: preset.sidePx } });
}

/** Has this data one size already? */
async function isPrepared(path: string): Promise<boolean> {
  const { isLatentPath } = await import('../data/names.js');
  if (isLatentPath(path)) return true;
  const [{ openSource }, { isUniform }] = await Promise.all([
    import('../data/source.js'),
    import('../data/plan-images.js'),
  ]);
  const source = await openSource(path);
  try {
    return isUniform(source);
  } finally {
    await source.close();
  }
}
