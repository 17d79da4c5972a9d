/** Which snapshots of a run are kept with `--keep`; without it, all are. */
import { rm } from 'node:fs/promises';
import type { TrainOptions } from '../config/train-options.js';
import { bestSnapshot } from '../run/evaluations.js';
import { nimgInName } from '../run/file-names.js';
import { listSnapshots } from '../run/runs.js';

/**
 * Autoguidance (Karras et al. 2024, section 4) guides by a network that has trained for a small part of the time; a run
 * without such a snapshot could not be guided by itself.
 */
const GUIDE_SHARE = 1 / 8;

/** Removes what `--keep` and `--keep-best` do not keep; a run with evaluations keeps its best one. @param totalNimg length of the run in images */
export async function removeOldSnapshots(
  runDir: string,
  { keep, keepBest, evalTicks }: Pick<TrainOptions, 'keep' | 'keepBest' | 'evalTicks'>,
  totalNimg: number,
): Promise<void> {
  if (keep === null) return;
  const all = await listSnapshots(runDir);
  const guide = all.find((file) => nimgInName(file) >= totalNimg * GUIDE_SHARE);
  const best = keepBest || evalTicks !== null ? await bestSnapshot(runDir) : null;
  const kept = new Set([...all.slice(-keep), guide, best?.file]);
  for (const file of all) if (!kept.has(file)) await rm(file, { force: true });
}
