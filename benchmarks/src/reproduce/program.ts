/** The command line, in a process of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(
  new URL('../../../packages/patch-diffusion/bin/patch-diffusion.js', import.meta.url),
);

/** Runs a command until it ends; a signal interrupts it. @returns its last line where it failed, or null */
export async function runProgram(args: readonly string[], signal: AbortSignal): Promise<string | null> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const stop = () => child.kill('SIGINT');
  signal.addEventListener('abort', stop);
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4000);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  signal.removeEventListener('abort', stop);
  if (code === 0) return null;
  return errors.trim().split('\n').at(-1) || `exit code ${code}`;
}
