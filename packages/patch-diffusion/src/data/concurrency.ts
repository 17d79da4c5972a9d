/** Doing the same to many items, a few at a time, or as many as fit into memory. */

/** Images decoded side by side: enough to keep libuv's four threads busy between two turns of the event loop. */
export const DECODE_CONCURRENCY = 8;

/** Calls `work` for each item, `concurrency` at a time; rejects with the first error once all calls have ended. */
export async function forEachConcurrently<T>(
  items: readonly T[],
  concurrency: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failure: { error: unknown } | null = null;
  const worker = async () => {
    while (next < items.length && failure === null) {
      const index = next++;
      try {
        await work(items[index]!, index);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  if (failure !== null) throw (failure as { error: unknown }).error;
}

/**
 * Lets pieces of work run side by side as long as what they take (pixels, bytes) fits; one that is above the whole
 * budget runs alone.
 */
export class Budget {
  #inUse = 0;
  readonly #waiting: { amount: number; start: () => void }[] = [];

  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async use<T>(amount: number, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#fits(amount)) {
      await new Promise<void>((start) => this.#waiting.push({ amount, start }));
    } else {
      this.#inUse += amount;
    }
    try {
      return await work();
    } finally {
      this.#inUse -= amount;
      while (this.#waiting.length > 0 && this.#fits(this.#waiting[0].amount)) {
        const next = this.#waiting.shift()!;
        this.#inUse += next.amount;
        next.start();
      }
    }
  }

  #fits(amount: number): boolean {
    return this.#inUse === 0 || this.#inUse + amount <= this.#limit;
  }
}
