/** Runs the cases of one target in a thread, which the main one ends where it hangs. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import sharp from 'sharp';
import { randomFrom } from '../random.js';
import { isExpected } from './expected.js';
import { type TargetName, targets } from './targets.js';

export interface Work {
  readonly target: TargetName;
  readonly seed: number;
  /** Number of the first case. */
  readonly first: number;
  readonly cases: number;
}

export type Message =
  | { readonly type: 'case'; readonly index: number }
  | { readonly type: 'fault'; readonly index: number; readonly reason: string }
  | { readonly type: 'left out'; readonly reason: string }
  | {
      readonly type: 'done';
      readonly values: number;
      readonly errors: number;
      readonly slowestMs: number;
      readonly growthBytes: number;
    };

/** Processor time that a file of a few kilobytes may take. */
const LIMIT_MS = 3000;
/** Memory by which the process may grow over all cases. */
const LIMIT_BYTES = 600 * 2 ** 20;

async function work({ target, seed, first, cases }: Work, say: (message: Message) => void): Promise<void> {
  sharp.cache(false);
  const folder = mkdtempSync(join(tmpdir(), `patch-diffusion-fuzz-${target}-`));
  try {
    const attempt = await targets[target](folder);
    if (typeof attempt === 'string') {
      say({ type: 'left out', reason: attempt });
      return;
    }
    const before = process.memoryUsage.rss();
    let [values, errors, slowestMs, growthBytes] = [0, 0, 0, 0];
    for (let index = first; index < first + cases; index++) {
      say({ type: 'case', index });
      // Each case by itself, so that one can be repeated without those before.
      const random = randomFrom(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
      const start = process.cpuUsage();
      try {
        await attempt((bound) => Math.floor(random() * bound));
        values++;
      } catch (error) {
        if (isExpected(error)) errors++;
        else say({ type: 'fault', index, reason: (error as Error).stack ?? String(error) });
      }
      const { user, system } = process.cpuUsage(start);
      const ms = (user + system) / 1000;
      if (ms > LIMIT_MS)
        say({ type: 'fault', index, reason: `it took ${ms.toFixed(0)} ms of processor time` });
      slowestMs = Math.max(slowestMs, ms);
      const growth = process.memoryUsage.rss() - before;
      if (growth > LIMIT_BYTES && growthBytes <= LIMIT_BYTES)
        say({ type: 'fault', index, reason: `the process has grown by ${Math.round(growth / 2 ** 20)} MiB` });
      growthBytes = Math.max(growthBytes, growth);
    }
    if (values === 0 && cases >= 200)
      say({ type: 'fault', index: first, reason: 'no file was read, though some were sound' });
    say({ type: 'done', values, errors, slowestMs, growthBytes });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

await work(workerData as Work, (message) => parentPort?.postMessage(message));
