/** Runs the built command line (dist) as a user does. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  /** Resolves when this has been printed; rejects when the program ends without it. */
  until(text: string | RegExp): Promise<void>;
  readonly end: Promise<Outcome>;
}

export interface CliOptions {
  readonly cwd?: string | undefined;
  /** Variables; undefined: not set. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Words before the command line, such as those that run it elsewhere. */
  readonly before?: readonly string[];
  /** Called with all output so far; may send a signal. */
  readonly onOutput?: ((output: string, kill: (signal: NodeJS.Signals) => void) => void) | undefined;
}

/** Starts the program; what it writes is kept. */
export function startCli(
  args: readonly string[],
  { cwd, env, before = [], onOutput }: CliOptions = {},
): Running {
  const inherited: NodeJS.ProcessEnv = { ...process.env, COLUMNS: '100' };
  delete inherited.FORCE_COLOR;
  const [program, ...words] = [...before, process.execPath, bin, ...args];
  const child = spawn(program, words, {
    cwd,
    env: { ...inherited, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (part: string) => {
      output[name] += part;
      for (const look of waiting) look();
      onOutput?.(output.stdout + output.stderr, (signal) => child.kill(signal));
    });
  }
  const end = once(child, 'close').then(([code]) => ({ code: code as number | null, ...output }));
  const until = (text: string | RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const all = output.stdout + output.stderr;
        if (typeof text === 'string' ? !all.includes(text) : !text.test(all)) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
      void end.then(() => reject(new Error(`ended without "${text}": ${output.stderr}`)));
    });
  return { child, until, end };
}

/** Runs it to its end. */
export function runCli(args: readonly string[], onOutput?: CliOptions['onOutput']): Promise<Outcome> {
  return startCli(args, { onOutput }).end;
}
