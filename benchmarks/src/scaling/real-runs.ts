/** Trainings in several processes under the clock: what the simulation is checked with. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Policy } from './simulate.js';

export interface RealRun {
  readonly ranks: number;
  readonly threads: number;
  readonly policy: Exclude<Policy, 'independent'>;
  /** Whole images per update, of all ranks. */
  readonly batch: number;
  readonly updates: number;
}

const PROGRAM = fileURLToPath(new URL('../bin/patch-diffusion.js', import.meta.resolve('patch-diffusion')));
/** Updates at the start that warm up. */
const WARM_UP = 5;
/** Statistics and files at the end are in no update. */
const NO_FILES =
  '--snapshot-ticks none --state-ticks none --sample-ticks none --nosubdir --tick-kimg 1000000';

interface Span {
  readonly name: string;
  readonly ts: number;
  readonly dur: number;
}

/**
 * Trains, and reads from the trace how long updates took by the clock.
 * @param data a prepared set
 * @param flags that describe the network
 * @param imagesPerUpdate images that an update counts as
 * @returns mean seconds of an update
 */
export async function realUpdateSeconds(
  { ranks, threads, policy, batch, updates }: RealRun,
  {
    folder,
    data,
    flags,
    imagesPerUpdate,
  }: {
    readonly folder: string;
    readonly data: string;
    readonly flags: readonly string[];
    readonly imagesPerUpdate: number;
  },
): Promise<number> {
  const name = `${policy}-${ranks}x${threads}`;
  const trace = join(folder, `${name}.json`);
  const kimg = (Math.floor(imagesPerUpdate) * updates) / 1000;
  await promisify(execFile)(process.execPath, [
    ...[PROGRAM, 'train', '--data', data, ...flags, ...NO_FILES.split(' ')],
    ...['--nproc', String(ranks), '--threads', String(threads), '--batch', String(batch)],
    // Sizes in even turns: the mean over few updates is that of the mix.
    ...(policy === 'stratified' ? ['--schedule', 'stratified'] : ['--schedule', 'stochastic', '--stratify']),
    ...['--duration-kimg', String(kimg), '--seed', '1', '--out', join(folder, name), '--trace', trace],
  ]);
  const { traceEvents } = JSON.parse(await readFile(trace, 'utf8')) as {
    traceEvents: (Span & { ph: string })[];
  };
  const spans = traceEvents.filter(({ ph }) => ph === 'X');
  const begins = spans.filter(({ name }) => name === 'data').map(({ ts }) => ts);
  const [from, to] = [begins[WARM_UP], begins[begins.length - 1]];
  const outside = spans.filter(({ name, ts }) => name === 'maintenance' && ts >= from && ts < to);
  const sec = (to - from - outside.reduce((sum, { dur }) => sum + dur, 0)) / 1e6;
  return sec / (begins.length - 1 - WARM_UP);
}
