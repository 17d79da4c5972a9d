/** Small and read-only disks, few open files, little memory, and clocks that jump. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lastLine, type Outcome, run, start } from './program.js';
import { type Scenario, type Scope, spread, type Try } from './scenario.js';
import { hasState } from './training.js';

/** An outcome that a person can understand: done, or one line that says what is wrong. */
function isClear({ code, output }: Outcome): boolean {
  const last = output.trim().split('\n').at(-1) ?? '';
  return code === 0 || ((code === 1 || code === 2) && last.startsWith('error: '));
}

/** Runs `use` with a small disk of its own in memory. */
async function withDisk(
  { training }: Scope,
  sizeKib: number,
  use: (folder: string, remount: (options: string) => void) => Promise<string | null>,
): Promise<string | null> {
  const folder = training.newPath();
  mkdirSync(folder);
  const mount = (...options: string[]) => execFileSync('mount', [...options, folder], { stdio: 'ignore' });
  mount('-t', 'tmpfs', '-o', `size=${sizeKib}k`, 'tmpfs');
  try {
    return await use(folder, (options) => mount('-o', `remount,${options}`));
  } finally {
    execFileSync('umount', ['-l', folder]);
  }
}

/** Whether this process may mount file systems. */
function mayMount({ training }: Scope): boolean {
  const folder = training.newPath();
  mkdirSync(folder);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', folder], {
    stdio: 'ignore',
  });
  if (status !== 0) return false;
  execFileSync('umount', [folder]);
  return true;
}

const NO_MOUNT = 'mounting a small disk needs root on Linux';

export const smallDisks: Scenario = {
  name: 'full and read-only disk',
  prepare: (scope) => {
    if (!mayMount(scope)) return { skipped: NO_MOUNT };
    const { training, quick } = scope;
    const full =
      (sizeKib: number): Try =>
      () =>
        withDisk(scope, sizeKib, async (disk, remount) => {
          const out = join(disk, 'run');
          const outcome = await run(training.begin(out));
          if (!isClear(outcome)) return `ended with ${lastLine(outcome)}`;
          remount('size=20m');
          return training.recovered(out);
        });
    const filledLater: Try = () =>
      withDisk(scope, 20 * 1024, async (disk, remount) => {
        const out = join(disk, 'run');
        const { child, end } = start(training.begin(out));
        while (!hasState(out) && child.exitCode === null) await sleep(1);
        remount('size=600k');
        const outcome = await end;
        if (!isClear(outcome)) return `ended with ${lastLine(outcome)}`;
        remount('size=20m');
        return training.recovered(out);
      });
    const readOnly: Try = () =>
      withDisk(scope, 20 * 1024, async (disk, remount) => {
        const out = training.copyOfBegun(join(disk, 'run'));
        remount('ro');
        const outcome = await training.goOn(out);
        if (!isClear(outcome) || outcome.code === 0) return `ended with ${lastLine(outcome)}`;
        remount('rw');
        return training.recovered(out);
      });
    const sizes = [4, 100, 400, 500, 600, 800, 1000, 1200];
    return [
      ...spread(sizes, quick ? 2 : sizes.length).map((size) => ({
        name: `${size} KiB`,
        attempt: full(size),
      })),
      ...(quick ? [] : [{ name: 'filled after the first state', attempt: filledLater }]),
      { name: 'read-only when going on', attempt: readOnly },
    ];
  },
};

/** Goes on with a run under limits, and then without. */
const limited =
  ({ training }: Scope, limit: string, mustBeClear: boolean): Try =>
  async () => {
    const out = training.copyOfBegun();
    const outcome = await training.goOn(out, { limit });
    if (mustBeClear && !isClear(outcome)) return `ended with ${lastLine(outcome)}`;
    return training.recovered(out);
  };

export const fewFiles: Scenario = {
  name: 'few open files',
  prepare: (scope) => {
    const counts = [20, 22, 24, 26, 28, 30, 34, 40];
    return spread(counts, scope.quick ? 2 : counts.length).map((count) => ({
      name: `ulimit -n ${count}`,
      // With fewer, Node itself does not start.
      attempt: limited(scope, `-n ${count}`, count >= 30),
    }));
  },
};

export const littleMemory: Scenario = {
  name: 'little memory',
  prepare: async (scope) => {
    if (process.platform !== 'linux') return { skipped: 'limits of memory are tried on Linux' };
    const peak = await peakKib(scope);
    const shares = [0.5, 0.8, 0.9, 0.94, 0.97, 0.99];
    return spread(shares, scope.quick ? 2 : shares.length).map((share) => ({
      name: `${share} of the address space that it takes`,
      // Where Node finds no memory for itself, it ends as if it were killed.
      attempt: limited(scope, `-v ${Math.round(share * peak)}`, false),
    }));
  },
};

/** The largest address space of a run, in KiB. */
async function peakKib({ training }: Scope): Promise<number> {
  const out = training.copyOfBegun();
  const { child, end } = start(['train', '--resume', out]);
  let peak = 0;
  let isRunning = true;
  void end.then(() => {
    isRunning = false;
  });
  while (isRunning) {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
    peak = Math.max(peak, Number(/VmPeak:\s+(\d+)/.exec(status)?.[1] ?? 0));
    await sleep(20);
  }
  rmSync(out, { recursive: true, force: true });
  return peak;
}

const YEAR_SEC = 365 * 86_400;

export const clocks: Scenario = {
  name: 'clock set back and forward',
  prepare: ({ training, quick }) => {
    const shifts = quick
      ? [-10 * YEAR_SEC, 10 * YEAR_SEC]
      : [-10, -0.01, -1e-4, 1e-4, 0.01, 10].map((years) => years * YEAR_SEC);
    return shifts.flatMap((shiftSec) =>
      (quick ? [0.5] : [0, 0.5, 0.8]).map((share) => ({
        name: `by ${shiftSec} s after ${share} of the time`,
        attempt: async () => {
          const out = training.copyOfBegun();
          const fault = { type: 'clock', shiftSec, afterMs: share * training.resumeMs } as const;
          const { child, end } = start(['train', '--resume', out], { fault });
          await Promise.race([sleep(0.9 * training.resumeMs), end]);
          child.kill('SIGKILL');
          await end;
          return training.recovered(out);
        },
      })),
    );
  },
};
