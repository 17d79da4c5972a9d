/**
 * `--nproc N`: starts the ranks of this machine, passes signals on, sees that none is left, and starts them again
 * where that was asked for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '@patch-diffusion/torch/free-port';
import { LAUNCHED } from '../common/launched.js';
import { newestState } from '../run/runs.js';
import { INTERRUPTED } from './interrupt.js';
import { note } from './terminal.js';

/** Ranks end by themselves when one of them is lost; after this time they are ended. */
const PATIENCE_MS = 45_000;
const WRONG_USE = 2;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What a rank tells the process that started it. */
export type RankNews =
  | { readonly type: 'run'; readonly runDir: string }
  | { readonly type: 'failure'; readonly code: string | undefined };

/** What is started. The environment of ranks says what they are: `--nproc` says nothing to them. */
export interface Launch {
  readonly args: readonly string[];
  readonly restart?:
    | {
        /** How often all are started again after a failure. */
        readonly times: number;
        /** The command line that goes on with a run from its newest state. */
        readonly resume: (runDir: string) => readonly string[];
      }
    | undefined;
}

/**
 * Runs this program's command line in `count` processes, and after a failure from the newest state again. Wrong use and
 * training that diverges would fail in the same way and are not repeated.
 * @returns the exit code: that of the first rank that failed, or that of rank 0
 */
export async function launchRanks(count: number, launch: Launch): Promise<number> {
  let { args } = launch;
  const { times = 0, resume } = launch.restart ?? {};
  for (let restarts = 0; ; restarts++) {
    const { exitCode, canBeRepeated, runDir } = await runRanks(count, args);
    if (!canBeRepeated || restarts === times) return exitCode;
    const state = runDir === null ? null : await newestState(runDir);
    args = state === null ? launch.args : resume!(runDir!);
    const from = state === null ? 'the beginning, since no state was saved yet' : state;
    note(`starting all ranks again (${restarts + 1} of ${times}) from ${from}`);
  }
}

interface RanksEnd {
  readonly exitCode: number;
  readonly canBeRepeated: boolean;
  /** Where rank 0 has written; null where it did not come so far. */
  readonly runDir: string | null;
}

async function runRanks(count: number, args: readonly string[]): Promise<RanksEnd> {
  const port = await freePort();
  const children = Array.from({ length: count }, (_, rank) => startRank(rank, count, port, args));
  let canBeRepeated = true;
  const pass = (signal: NodeJS.Signals) => {
    canBeRepeated = false;
    for (const child of children) child.kill(signal);
  };
  for (const name of SIGNALS) process.on(name, pass);
  let timer: NodeJS.Timeout | undefined;
  let runDir: string | null = null;
  const failures: number[] = [];
  try {
    const codes = await Promise.all(
      children.map(async (child, rank) => {
        child.on('message', (news: RankNews) => {
          if (news.type === 'run') runDir = news.runDir;
          else if (news.type === 'failure' && news.code === 'DIVERGED') canBeRepeated = false;
        });
        const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
        if (signal !== null) note(`rank ${rank} was ended by ${signal}`);
        if (code !== 0 && code !== INTERRUPTED) {
          failures.push(code ?? 1);
          timer ??= setTimeout(() => endAll(children), PATIENCE_MS);
        }
        return code ?? 1;
      }),
    );
    const isFailure = failures.length > 0 && !failures.includes(WRONG_USE);
    return { exitCode: failures[0] ?? codes[0], canBeRepeated: canBeRepeated && isFailure, runDir };
  } finally {
    clearTimeout(timer);
    for (const name of SIGNALS) process.off(name, pass);
  }
}

function endAll(children: readonly ChildProcess[]): void {
  const alive = children.flatMap((child, rank) =>
    child.exitCode === null && child.signalCode === null ? [rank] : [],
  );
  note(`rank ${alive.join(', ')} did not end by itself and is ended now`);
  for (const rank of alive) children[rank].kill('SIGKILL');
}

/** Rank 0 has this terminal; the others write a log in the run folder, and errors here. */
function startRank(rank: number, count: number, port: number, args: readonly string[]): ChildProcess {
  const env = {
    ...process.env,
    ...{ RANK: String(rank), LOCAL_RANK: String(rank) },
    ...{ WORLD_SIZE: String(count), LOCAL_WORLD_SIZE: String(count) },
    ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port), [LAUNCHED]: '1' },
  };
  return spawn(process.execPath, [...process.execArgv, process.argv[1], ...args], {
    env,
    // A group of its own: Ctrl-C reaches this process only, which passes it on once.
    detached: true,
    // The channel closes when this process ends, whatever ends it.
    stdio: ['ignore', rank === 0 ? 'inherit' : 'ignore', 'inherit', 'ipc'],
  });
}
