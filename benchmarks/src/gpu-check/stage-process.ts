/**
 * A stage in a process of its own: one that crashes, hangs or spoils its GPU context takes nothing with it. It writes its
 * results as JSON lines on standard output and what it is doing on standard error.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Emit, parseResult } from './results.js';
import { OutOfTime } from './run-stages.js';

const PROGRAM = fileURLToPath(new URL('./stage.js', import.meta.url));

/** Variables of all stages: cuBLAS repeats its sums exactly only with a workspace of fixed size. */
const ENVIRONMENT = { CUBLAS_WORKSPACE_CONFIG: ':4096:8' };

const running = new Set<ChildProcess>();

/** Ends the processes of stages that still run, with all that they started. */
export function endStages(): void {
  for (const child of running) endGroup(child);
}

function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended by itself
  }
}

/**
 * @param logFile gets what the stage writes on standard error
 * @throws OutOfTime when it was ended after `limitSec`; Error with its last words when it failed
 */
export async function runStageProcess(
  args: readonly string[],
  emit: Emit,
  limitSec: number,
  logFile: string,
): Promise<void> {
  // A process group of its own, so that Python's processes end with it.
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    ...{ detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
    env: { ...process.env, ...ENVIRONMENT },
  });
  running.add(child);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    endGroup(child);
  }, limitSec * 1000);
  const log = createWriteStream(logFile, { flags: 'a' });
  let tail = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log.write(text);
    tail = (tail + text).slice(-4000);
  });
  const ended = new Promise<string | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve(code === 0 ? null : signal ? `ended by ${signal}` : `exit status ${code}`),
    );
  });
  try {
    for await (const line of createInterface({ input: child.stdout })) emit(parseResult(line));
    const fault = await ended;
    if (isLate) throw new OutOfTime(`its time was over after ${limitSec.toFixed(0)} s`);
    if (fault !== null) throw new Error(lastWords(tail) || fault);
  } finally {
    clearTimeout(timer);
    endGroup(child);
    running.delete(child);
    log.end();
  }
}

/** What a stage said last: its error message. */
function lastWords(text: string): string {
  const at = text.lastIndexOf('stage failed: ');
  return at < 0 ? (text.trim().split('\n').at(-1) ?? '') : text.slice(at + 'stage failed: '.length).trim();
}
