/** `train --nproc N`: starts the ranks of this machine, passes signals on, and sees that none is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { LAUNCHED } from '../common/launched.js';
import { INTERRUPTED } from './interrupt.js';
import { note } from './terminal.js';

/** Ranks end by themselves when one of them is lost; after this time they are ended. */
const PATIENCE_MS = 45_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs this program's command line in `count` processes.
 * @param args the command line, without `--nproc`
 * @returns the exit code: that of the first rank that failed, or that of rank 0
 */
export async function launchRanks(count: number, args: readonly string[]): Promise<number> {
  const port = await freePort();
  const children = Array.from({ length: count }, (_, rank) => startRank(rank, count, port, args));
  const pass = (signal: NodeJS.Signals) => {
    for (const child of children) child.kill(signal);
  };
  for (const name of SIGNALS) process.on(name, pass);
  let timer: NodeJS.Timeout | undefined;
  const failures: number[] = [];
  try {
    const codes = await Promise.all(
      children.map(async (child, rank) => {
        const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
        if (signal !== null) note(`rank ${rank} was ended by ${signal}`);
        if (code !== 0 && code !== INTERRUPTED) {
          failures.push(code ?? 1);
          timer ??= setTimeout(() => endAll(children), PATIENCE_MS);
        }
        return code ?? 1;
      }),
    );
    return failures[0] ?? codes[0];
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

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
