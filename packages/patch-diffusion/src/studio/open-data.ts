/** The data of the runs that pages look at, opened once. */
import { stat } from 'node:fs/promises';
import { located } from '../run/located.js';
import type { RunJson } from '../run/runs.js';
import { RunData } from './data-view.js';

/** Runs whose data stays open. */
const KEPT = 4;

interface Entry {
  /** Differs once the options of the run or its data are others. */
  readonly stamp: string;
  readonly data: Promise<RunData>;
}

export class OpenData {
  /** By run, the one that was used last at the end. */
  readonly #entries = new Map<string, Entry>();

  /** The data of a run, opened anew where it has changed. @throws {UserError} where it cannot be opened */
  async of(id: string, json: RunJson): Promise<RunData> {
    const stamp = await stampOf(json);
    const known = this.#entries.get(id);
    this.#entries.delete(id);
    if (known && known.stamp !== stamp) void close(known);
    const entry = known?.stamp === stamp ? known : { stamp, data: RunData.open(json) };
    this.#entries.set(id, entry);
    for (const [other, old] of [...this.#entries].slice(0, -KEPT)) {
      this.#entries.delete(other);
      void close(old);
    }
    try {
      return await entry.data;
    } catch (error) {
      // The next request tries again.
      if (this.#entries.get(id) === entry) this.#entries.delete(id);
      throw error;
    }
  }

  async close(): Promise<void> {
    const all = [...this.#entries.values()];
    this.#entries.clear();
    await Promise.all(all.map(close));
  }
}

async function close({ data }: Entry): Promise<void> {
  await data.then((opened) => opened.close()).catch(() => {});
}

async function stampOf(json: RunJson): Promise<string> {
  const info = await stat(located(json).data).catch(() => null);
  return JSON.stringify([json.config, info && [info.size, info.mtimeMs, info.ino]]);
}
