/** The runs of a folder as they are now. Reading it again costs a few calls per run where nothing has changed. */
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileError } from '../common/file-error.js';
import {
  AVERAGES_FOLDER,
  listSheets,
  listSnapshots,
  liveStatus,
  NEAREST_FOLDER,
  type RunJson,
  readRunJson,
  runFolderNames,
} from '../run/runs.js';
import type { RunSummary, RunsEvent } from './api.js';
import { lastValues } from './series.js';

interface Entry {
  readonly dir: string;
  readonly summary: RunSummary;
  /** Null where `run.json` is damaged. */
  readonly json: RunJson | null;
}

export class Catalogue {
  readonly #root: string;
  #entries = new Map<string, Entry>();
  #problem: string | null = null;

  /** @param root a folder of runs, or that of one run */
  constructor(root: string) {
    this.#root = root;
  }

  /** Everything there is, as an event. */
  get all(): RunsEvent {
    const changed = [...this.#entries.values()].map(({ summary }) => summary);
    return { changed, removed: [], problem: this.#problem };
  }

  /** Folder of a run; null for any name that is not in the list. */
  dirOf(id: string): string | null {
    return this.#entries.get(id)?.dir ?? null;
  }

  jsonOf(id: string): RunJson | null {
    return this.#entries.get(id)?.json ?? null;
  }

  /** Share of a run's training that is done, 0 … 1. */
  progressOf(id: string): number {
    const { kimg = 0, totalKimg = 0 } = this.#entries.get(id)?.summary ?? {};
    return totalKimg > 0 ? Math.min(1, kimg / totalKimg) : 0;
  }

  /** Reads the folder again. @returns what has changed, or null */
  async refresh(): Promise<RunsEvent | null> {
    const before = this.#entries;
    const problemBefore = this.#problem;
    try {
      this.#entries = await this.#read(before);
      this.#problem = null;
    } catch (error) {
      // What was known is still shown: the folder may be on a share that comes back.
      this.#problem = `${(fileError(error, `read ${this.#root}`) as Error).message}; the runs below are as last seen`;
    }
    const changed = [...this.#entries.values()]
      .map(({ summary }) => summary)
      .filter((summary) => !isSame(summary, before.get(summary.id)?.summary));
    const removed = [...before.keys()].filter((id) => !this.#entries.has(id));
    const isQuiet = changed.length + removed.length === 0 && this.#problem === problemBefore;
    return isQuiet ? null : { changed, removed, problem: this.#problem };
  }

  async #read(before: ReadonlyMap<string, Entry>): Promise<Map<string, Entry>> {
    const isOneRun = (await stat(join(this.#root, 'run.json')).catch(() => null)) !== null;
    const ids = isOneRun ? [basename(resolve(this.#root))] : await runFolderNames(this.#root);
    const entries = new Map<string, Entry>();
    for (const id of ids) {
      const dir = isOneRun ? this.#root : join(this.#root, id);
      const entry = await readEntry(id, dir, before.get(id));
      if (entry !== null) entries.set(id, entry);
    }
    return entries;
  }
}

const isSame = (a: RunSummary, b: RunSummary | undefined): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Null for a folder without a run. */
async function readEntry(id: string, dir: string, before: Entry | undefined): Promise<Entry | null> {
  const revision = await revisionOf(dir);
  // A process may go without changing a file.
  if (before?.summary.revision === revision) return withState(before);
  let json: RunJson | null;
  try {
    json = await readRunJson(dir);
  } catch (error) {
    return { dir, json: null, summary: { ...NOTHING, id, revision, problem: (error as Error).message } };
  }
  if (json === null) return null;
  const [last, sheets, snapshots] = await Promise.all([lastValues(dir), listSheets(dir), listSnapshots(dir)]);
  const value = (key: string): number | null => last.get(key) ?? null;
  const kimg = Math.max(json.nimg / 1000, value('Progress/kimg') ?? 0);
  const summary: RunSummary = {
    ...NOTHING,
    ...{ id, revision, kimg },
    ...{ data: json.config.data, preset: json.config.preset, startedAt: json.startedAt },
    step: Math.max(json.step, value('Progress/step') ?? 0),
    totalKimg: json.totalNimg / 1000,
    loss: value('Loss/loss'),
    // Measured at some ticks only; the last one that was seen is kept.
    heldOutLoss: value('Loss/held_out') ?? before?.summary.heldOutLoss ?? null,
    imagesPerSec: value('Timing/images_per_sec'),
    trainedSec: value('Timing/total_sec'),
    sheets: sheets.length,
    snapshots: snapshots.length,
  };
  return withState({ dir, json, summary });
}

const NOTHING: RunSummary = {
  ...{ id: '', state: 'damaged', problem: null, data: '', preset: '', startedAt: '', revision: '' },
  ...{ step: 0, kimg: 0, totalKimg: 0, loss: null, heldOutLoss: null, imagesPerSec: null },
  ...{ trainedSec: null, etaSec: null, sheets: 0, snapshots: 0 },
};

function withState(entry: Entry): Entry {
  const { json, summary } = entry;
  if (json === null) return entry;
  const state = liveStatus(json);
  const eta = state === 'running' ? etaSec(json, summary) : null;
  const isKilled = state === 'killed';
  const problem = isKilled ? 'its process is gone; train --resume continues it' : (json.error ?? null);
  return { ...entry, summary: { ...summary, state, problem, etaSec: eta } };
}

/** What is left at the pace so far; a time limit may end the run before. */
function etaSec(
  { config }: RunJson,
  { kimg, totalKimg, imagesPerSec, trainedSec }: RunSummary,
): number | null {
  if (!imagesPerSec) return null;
  const byImages = (Math.max(0, totalKimg - kimg) * 1000) / imagesPerSec;
  const { maxSec, resume } = config;
  // The limit of a resumed run counts from where it was resumed, which is not on record.
  if (typeof maxSec !== 'number' || resume) return byImages;
  return Math.min(byImages, Math.max(0, maxSec - (trainedSec ?? 0)));
}

/** Times and sizes of all that is shown of a run. */
async function revisionOf(dir: string): Promise<string> {
  const files = ['run.json', 'stats.jsonl', 'evaluations.jsonl'];
  const folders = ['samples', 'snapshots', NEAREST_FOLDER, AVERAGES_FOLDER];
  const parts = [...files, ...folders].map(async (name) => {
    const info = await stat(join(dir, name)).catch(() => null);
    return info === null ? '-' : `${info.mtimeMs.toString(36)}.${info.size.toString(36)}`;
  });
  return (await Promise.all(parts)).join('_');
}
