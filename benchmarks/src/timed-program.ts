/** Programs under the clock: each in a process of its own, from its start to its end. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { median, type StepSeconds } from './timing.js';

export const run = promisify(execFile);

/** The command line of patch-diffusion. */
export const PROGRAM = fileURLToPath(
  new URL('../bin/patch-diffusion.js', import.meta.resolve('patch-diffusion')),
);

/** Loaded before the program: at its end, says what processor time it took. */
const REPORT = `data:text/javascript,${encodeURIComponent(`
process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ cpu: (user + system) / 1e6 }));
});`)}`;

/** Seconds of a Node program. */
export function timedNode(args: readonly string[], env = process.env): Promise<StepSeconds> {
  return timed(process.execPath, ['--import', REPORT, ...args], env);
}

/** Seconds of a program whose last line is its processor time, as `{"cpu": seconds}`. */
export async function timed(
  program: string,
  args: readonly string[],
  env = process.env,
): Promise<StepSeconds> {
  const begin = performance.now();
  const { stdout } = await run(program, args, { env });
  const wall = (performance.now() - begin) / 1000;
  return { wall, ...(JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { cpu: number }) };
}

export const wallOf = (times: readonly StepSeconds[]): number => median(times.map(({ wall }) => wall));
export const cpuOf = (times: readonly StepSeconds[]): number => median(times.map(({ cpu }) => cpu));
