/**
 * When a run is resumed from an older state, the files that it had written after that state are moved to `superseded/`, so
 * that the newest file in each folder always belongs to the current run.
 */
import { appendFile, mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { EVALUATIONS, parseEvaluation } from './evaluations.js';
import { cutEvents, eventsBeyond } from './event-files.js';
import { nimgInName } from './file-names.js';
import { listAverages, listNearest, listSheets, listSnapshots, listStates } from './runs.js';
import type { Stat } from './stats.js';

/**
 * Moves everything beyond a point of the run into a new folder below `superseded/`.
 * @param step updates up to that point
 * @param nimg images up to that point
 * @returns that folder, or null when there was nothing to move
 */
export async function setAside(
  runDir: string,
  { step, nimg }: { readonly step: number; readonly nimg: number },
): Promise<string | null> {
  const lists = await Promise.all(
    [listStates, listSnapshots, listAverages, listSheets, listNearest].map((list) => list(runDir)),
  );
  const newer = lists.flat().filter((file) => nimgInName(file) > nimg);
  const stats = await linesBeyond(join(runDir, 'stats.jsonl'), (line) => kimgOf(line) > nimg / 1000);
  const evaluations = await linesBeyond(
    join(runDir, EVALUATIONS),
    (line) => (parseEvaluation(line)?.nimg ?? 0) > nimg,
  );
  const events = await eventsBeyond(runDir, step);
  if (!newer.length && !stats.later.length && !evaluations.later.length && !events.length) return null;

  const all = join(runDir, 'superseded');
  makeFolder(all);
  const last = Math.max(-1, ...(await readdir(all)).map((name) => Number(/\d+/.exec(name)?.[0] ?? -1)));
  const target = join(all, String(last + 1).padStart(5, '0'));
  await mkdir(target);
  for (const file of newer) {
    const folder = join(target, basename(dirname(file)));
    makeFolder(folder);
    await rename(file, join(folder, basename(file)));
  }
  for (const { file, kept, later } of [stats, evaluations]) {
    if (later.length === 0) continue;
    await appendFile(join(target, basename(file)), later.join(''));
    await writeFileAtomic(file, kept.join(''));
  }
  // Tables are made anew.
  const tables = { 'stats.csv': stats, 'evaluations.csv': evaluations };
  for (const [name, { later }] of Object.entries(tables))
    if (later.length > 0) await rename(join(runDir, name), join(target, name)).catch(ignoreMissing);
  for (const { file, keptBytes } of events) await cutEvents(file, keptBytes, join(target, basename(file)));
  return target;
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}

/** The lines of a file, and among them those beyond a point. */
async function linesBeyond(
  file: string,
  isLater: (line: string) => boolean,
): Promise<{ file: string; kept: string[]; later: string[] }> {
  const lines = (await readFile(file, 'utf8').catch(() => '')).match(/.*\n/g) ?? [];
  return { file, kept: lines.filter((line) => !isLater(line)), later: lines.filter(isLater) };
}

function kimgOf(line: string): number {
  try {
    return (JSON.parse(line) as Record<string, Stat | undefined>)['Progress/kimg']?.mean ?? 0;
  } catch {
    return 0; // damaged; it stays where it is
  }
}
