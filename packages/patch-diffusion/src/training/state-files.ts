/**
 * Which saved states of a run are kept: the newest two, and the last good one where these were saved while the run
 * diverged.
 */
import { rm } from 'node:fs/promises';
import { listStates } from '../run/runs.js';
import { readStateInfo } from './checkpoint.js';

const STATES_KEPT = 2;

/** Removes older states. @param newest the one that was just written */
export async function removeOldStates(runDir: string, newest: string): Promise<void> {
  const older = (await listStates(runDir)).filter((file) => file !== newest).reverse();
  const kept = [newest, ...older.splice(0, STATES_KEPT - 1)];
  let hasGood = (await Promise.all(kept.map(isGoodState))).includes(true);
  for (const file of older) {
    if (!hasGood && (await isGoodState(file))) hasGood = true;
    else await rm(file, { force: true });
  }
}

/** The newest good state of a run, or null. */
export async function lastGoodState(runDir: string): Promise<string | null> {
  for (const file of (await listStates(runDir)).reverse()) if (await isGoodState(file)) return file;
  return null;
}

/** Damaged files are not good; those of earlier versions do not tell and count as good. */
function isGoodState(file: string): Promise<boolean> {
  return readStateInfo(file).then(
    ({ isGood = true }) => isGood,
    () => false,
  );
}
