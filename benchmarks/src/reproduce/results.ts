/** Results: one JSON line a run, appended when it is done. The files are committed. */
import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as torch from '@patch-diffusion/torch';

/** One evaluation of a run. */
export interface Point {
  /** Processor seconds of training so far, without evaluations, sheets and files. */
  readonly cpuSec: number;
  /** Seconds on the wall, everything included. */
  readonly wallSec: number;
  readonly kimg: number;
  /** Denoising loss of whole held-out images, averaged weights. */
  readonly heldOutLoss: number;
  /** Figures of samples, under the names of `evaluate --json`; absent where none were measured then. */
  readonly samples?: Readonly<Record<string, number>>;
}

/** What one run is, and nothing that it measured. */
export interface RunKey {
  readonly bed: string;
  readonly recipe: string;
  readonly seed: number;
  /** Processor seconds of training. */
  readonly budgetSec: number;
}

/** One line of a results file. */
export interface Result extends RunKey {
  readonly status: 'done' | 'failed';
  readonly error?: string;
  readonly points: readonly Point[];
  /** Figures of samples at the end, in results of before points had them. */
  readonly samples?: Readonly<Record<string, number>>;
  /** The command that makes the same run, with places left out. */
  readonly command: string;
  readonly commit: string;
  readonly cpu: string;
  readonly node: string;
  readonly libtorch: string;
  readonly date: string;
}

/** Name of a run's folder. */
export function runName({ bed, recipe, seed, budgetSec }: RunKey): string {
  return `${bed}-${recipe}-${budgetSec}s-seed${seed}`;
}

/** All results of a file; none where there is no such file. @throws Error naming the line that is no result */
export async function readResults(file: string): Promise<Result[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return text
    .split('\n')
    .flatMap((line, k) => (line.trim() === '' ? [] : [parse(line, `${file}, line ${k + 1}`)]));
}

function parse(line: string, place: string): Result {
  try {
    const result = JSON.parse(line) as Result;
    if (typeof result.bed === 'string' && Array.isArray(result.points)) return result;
  } catch {
    // Said below.
  }
  throw new Error(`${place}: this is not a result of \`npm run reproduce\``);
}

/** Appends a result; the file is never seen half-written. */
export async function addResult(file: string, result: Result): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  const lines = [...(await readResults(file)), result].map((line) => JSON.stringify(line));
  await torch.writeFileAtomic(file, `${lines.join('\n')}\n`);
}
