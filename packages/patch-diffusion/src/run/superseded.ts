/**
 * When a run is resumed from an older state, the files that it had written after that state are moved to `superseded/`, so
 * that the newest file in each folder always belongs to the current run.
 */
import { appendFile, mkdir, readdir, readFile, rename } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { nimgInName } from './file-names.js';
import { listSheets, listSnapshots, listStates } from './runs.js';
import type { Stat } from './stats.js';

/**
 * Moves everything beyond `nimg` images into a new folder below `superseded/`.
 * @returns that folder, or null when there was nothing to move
 */
export async function setAside(runDir: string, nimg: number): Promise<string | null> {
  const lists = await Promise.all([listStates(runDir), listSnapshots(runDir), listSheets(runDir)]);
  const newer = lists.flat().filter((file) => nimgInName(file) > nimg);
  const { kept, later } = splitStats(
    await readFile(join(runDir, 'stats.jsonl'), 'utf8').catch(() => ''),
    nimg,
  );
  if (!newer.length && !later.length) return null;

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
  if (later.length) {
    await appendFile(join(target, 'stats.jsonl'), later.join(''));
    await writeFileAtomic(join(runDir, 'stats.jsonl'), kept.join(''));
  }
  return target;
}

/** The lines of `stats.jsonl` up to `nimg` images, and those beyond. */
function splitStats(text: string, nimg: number): { kept: string[]; later: string[] } {
  const lines = text.match(/.*\n/g) ?? [];
  const isLater = (line: string) => kimgOf(line) > nimg / 1000;
  return { kept: lines.filter((line) => !isLater(line)), later: lines.filter(isLater) };
}

function kimgOf(line: string): number {
  try {
    return (JSON.parse(line) as Record<string, Stat | undefined>)['Progress/kimg']?.mean ?? 0;
  } catch {
    return 0; // damaged; it stays where it is
  }
}
