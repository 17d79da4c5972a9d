import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/**
 * Frees what earlier tests left to the collector. Awaited before an asynchronous test counts live tensors: the
 * collector may run at any `await`, and would make the count afterwards smaller.
 */
export async function collectGarbage(): Promise<void> {
  collect();
  // Finalizers run in the immediates that follow; some only free the tensors of others.
  for (let i = 0; i < 3; i++) await setImmediate();
}
