/**
 * Tells listeners what has changed in the runs folder. It is looked at once a second while anybody listens: watches of
 * the system would not see what other machines write to a shared folder.
 */
import type { RunsEvent } from './api.js';
import type { Catalogue } from './catalogue.js';

const INTERVAL_MS = 1000;

export class Watcher {
  readonly #catalogue: Catalogue;
  readonly #listeners = new Set<(event: RunsEvent) => void>();
  #timer: NodeJS.Timeout | null = null;
  #refreshing: Promise<void> | null = null;

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
  }

  /** Everything as it is now. */
  async now(): Promise<RunsEvent> {
    await this.#refresh();
    return this.#catalogue.all;
  }

  /** Calls `listener` with each change. @returns what ends that */
  listen(listener: (event: RunsEvent) => void): () => void {
    this.#listeners.add(listener);
    this.#timer ??= setTimeout(() => void this.#look(), INTERVAL_MS);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  async #look(): Promise<void> {
    const begin = performance.now();
    await this.#refresh();
    const tookMs = performance.now() - begin;
    this.#timer = null;
    // A slow disk is not kept busy.
    const waitMs = Math.max(INTERVAL_MS, 5 * tookMs);
    if (this.#listeners.size > 0) this.#timer = setTimeout(() => void this.#look(), waitMs);
  }

  /** Several callers share one look. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#tellChanges().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #tellChanges(): Promise<void> {
    const event = await this.#catalogue.refresh();
    if (event === null) return;
    for (const listener of this.#listeners) listener(event);
  }
}
