/** Runs the program under test, whole or harmed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Fault } from './faults.js';

const ROOT = join(import.meta.dirname, '../../..');
const BIN = join(ROOT, 'packages/patch-diffusion/bin/patch-diffusion.js');
const FAULTS = join(import.meta.dirname, 'faults.js');
/** Nothing here takes longer; what hangs is lost. */
const LIMIT_MS = 120_000;

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
}

export interface Settings {
  readonly fault?: Fault;
  /** Options of bash's `ulimit`: `-n 30`. */
  readonly limit?: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly end: Promise<Outcome>;
}

/** Starts `patch-diffusion` with these arguments. */
export function start(args: readonly string[], { fault, limit }: Settings = {}): Running {
  const node = [process.execPath, ...(fault ? ['--import', FAULTS] : []), BIN, ...args];
  const command = limit === undefined ? node : ['bash', '-c', `ulimit ${limit}; exec "$@"`, 'bash', ...node];
  const child = spawn(command[0], command.slice(1), {
    env: {
      ...process.env,
      OMP_NUM_THREADS: '1',
      NO_COLOR: '1',
      ...(fault ? { FAULT: JSON.stringify(fault) } : {}),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, LIMIT_MS);
  const end = once(child, 'close').then(([code, signal]): Outcome => {
    clearTimeout(timer);
    if (isLate) output += `\nhung: ended after ${LIMIT_MS / 1000} s`;
    return { code: code as number | null, signal: signal as NodeJS.Signals | null, output };
  });
  return { child, end };
}

/** Runs it to its end. */
export const run = (args: readonly string[], settings?: Settings): Promise<Outcome> =>
  start(args, settings).end;

/** What a failed outcome says last. */
export function lastLine({ output, code, signal }: Outcome): string {
  const last = output.trim().split('\n').at(-1) ?? '';
  return `${signal ?? `exit code ${code}`}: ${last}`;
}
