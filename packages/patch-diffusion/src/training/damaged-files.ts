/**
 * What is damaged at the end of a run when it is resumed (a disk's fault, a copy that broke off): the file gets another
 * name, and the run goes on from the state before.
 */
import { rename } from 'node:fs/promises';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { checkContents, isDamage } from '../formats/file-description.js';
import { listStates, newestSnapshot } from '../run/runs.js';
import { readSnapshotInfo } from '../run/snapshot-info.js';
import { readStateInfo, type StateInfo } from './checkpoint.js';
import type { TrainEventListener } from './events.js';

/** Ends the name of a file that was set aside. */
const ENDING = '.damaged';

/**
 * The newest state that is whole; damaged ones after it are set aside.
 * @throws {UserError} when there is none; no file is changed then
 */
export async function newestWholeState(
  runDir: string,
  emit: TrainEventListener,
): Promise<{ state: string; info: StateInfo }> {
  const damaged: { file: string; message: string }[] = [];
  for (const state of (await listStates(runDir)).reverse()) {
    try {
      const info = await readStateInfo(state);
      await checkContents(state);
      for (const { file, message } of damaged)
        await setAside(file, `${message}; the run goes on from the state before`, emit);
      return { state, info };
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged.push({ file: state, message: reason(error) });
    }
  }
  const all = damaged.length === 1 ? 'the only state' : `each of ${damaged.length} states`;
  throw new UserError(
    'BAD_STATE',
    `${all} of ${runDir} is damaged (${damaged[0].message}); start a new run, with --transfer ${runDir} if it has a snapshot`,
  );
}

/** The newest snapshot is what others use; where it belongs to the state, it is written again. */
export async function setDamagedSnapshotAside(runDir: string, emit: TrainEventListener): Promise<void> {
  const snapshot = await newestSnapshot(runDir);
  if (snapshot === null) return;
  try {
    await readSnapshotInfo(snapshot);
    await checkContents(snapshot);
  } catch (error) {
    if (isDamage(error)) await setAside(snapshot, reason(error), emit);
    // Anything else is for those who use the snapshot.
  }
}

/** Without what a person should do, which is done here. */
function reason(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? cause.message : message;
}

async function setAside(file: string, message: string, emit: TrainEventListener): Promise<void> {
  const aside = `${file}${ENDING}`;
  await guarded(`rename ${file}`, () => rename(file, aside));
  emit({ type: 'warning', code: 'DAMAGED', message: `${message}; it is now ${aside}` });
}
