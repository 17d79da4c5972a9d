/** Doing the same to many items, a few at a time. */

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
