/** Which snapshots of a run are kept with `--keep`; without it, all are. */
import { rm } from 'node:fs/promises';
import type { TrainOptions } from '../config/train-options.js';
import { GUIDE_SHARE } from '../run/choose-snapshot.js';
import { bestSnapshot } from '../run/evaluations.js';
import { nimgInName } from '../run/file-names.js';
import { listSnapshots } from '../run/runs.js';

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
