/** Running programs that download something: their output, and one line about a failure. */
import { spawn } from 'node:child_process';
import type { Host } from './host.js';

/** What one way of getting libtorch came to. */
export interface FetchOutcome {
  readonly ok: boolean;
  /** What was done or why it failed, in one line. */
  readonly report: string;
}

/** Python's option against importing what lies in the current folder or in PYTHONPATH. */
export const ISOLATED = '-I';

/** Runs a program away from the current folder; never throws: a program that cannot be started has the code -1. */
export function collect(
  program: string,
  args: string[],
  env: Host['env'],
  show = false,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: '/', env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const take = (chunk: Buffer) => {
      output += chunk.toString();
      if (show) process.stderr.write(chunk);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', (error) => resolve({ code: -1, output: error.message }));
    child.on('close', (code) => resolve({ code: code ?? -1, output }));
  });
}

/** The last line that reports an error, else the last line. */
export function lastError(output: string): string {
  // pip prints the same for an unreachable index and for a missing package.
  if (/No matching distribution found/.test(output)) {
    return 'it finds no torch (its index cannot be reached, or has none for this system and Python)';
  }
  const lines = output.trim().split(/\r?\n/);
  const errors = lines.filter((line) => /^(ERROR|E):/.test(line));
  return (errors.at(-1) ?? lines.at(-1) ?? 'failed without any output').replace(/^(ERROR|E):\s*/, '');
}
