/** `npm run fuzz`: damaged files of every kind that is read from outside. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { TARGET_NAMES } from './targets.js';
import type { Message, Work } from './worker.js';

const HELP = `Reads damaged files of every kind that comes from outside. Each must give a value or an error for people, within
limits of time and memory. Exit status 1 where one did not; the same case again: --target T --seed S --first I --cases 1.

  npm run fuzz                                  2,000 cases, of all kinds
  npm run fuzz -- --target zip --cases 50000    of one kind
  npm run fuzz -- --cases 100000 --seed 7

  --target T   ${TARGET_NAMES.join(', ')} (default: all, which share the cases)
  --cases N    default 2000
  --first I    number of the first case (default 0)
  --seed S     default 1
  --help
`;

/** A case in which nothing happens for so long hangs. */
const HANG_MS = 60_000;
/** Faults of a target that are shown. */
const SHOWN = 5;

interface Result {
  readonly faults: readonly string[];
  readonly leftOut: string | null;
  readonly done: Extract<Message, { type: 'done' }> | null;
}

function fuzz(work: Work): Promise<Result> {
  const faults: string[] = [];
  let done: Result['done'] = null;
  let leftOut: string | null = null;
  let [index, changedAt] = [work.first, performance.now()];
  const worker = new Worker(join(import.meta.dirname, 'worker.js'), {
    workerData: work,
    resourceLimits: { maxOldGenerationSizeMb: 1024 },
  });
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (performance.now() - changedAt < HANG_MS) return;
      faults.push(`case ${index}: it hangs`);
      void worker.terminate();
    }, 1000);
    worker.on('message', (message: Message) => {
      changedAt = performance.now();
      if (message.type === 'case') ({ index } = message);
      else if (message.type === 'fault') faults.push(`case ${message.index}: ${message.reason}`);
      else if (message.type === 'left out') leftOut = message.reason;
      else done = message;
    });
    worker.on('error', (error) =>
      faults.push(`case ${index}: the thread ended: ${error.stack ?? error.message}`),
    );
    worker.on('exit', () => {
      clearInterval(timer);
      resolve({ faults, leftOut, done });
    });
  });
}

function options() {
  const { values } = parseArgs({
    options: {
      target: { type: 'string' },
      cases: { type: 'string', default: '2000' },
      first: { type: 'string', default: '0' },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  });
  const count = (name: 'cases' | 'first' | 'seed') => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= (name === 'cases' ? 1 : 0)) return value;
    throw new Error(`--${name} ${values[name]} is not such a number; see --help`);
  };
  const { target, help } = values;
  const chosen = TARGET_NAMES.filter((name) => target === undefined || name === target);
  if (chosen.length === 0) throw new Error(`--target ${target} is not one of ${TARGET_NAMES.join(', ')}`);
  return { help, chosen, cases: count('cases'), first: count('first'), seed: count('seed') };
}

async function main(): Promise<number> {
  const { help, chosen, cases, first, seed } = options();
  const print = (text: string) => process.stdout.write(`${text}\n`);
  if (help) {
    print(HELP.trimEnd());
    return 0;
  }
  const line = (...cells: (string | number)[]) =>
    print(cells.map((cell, i) => (i ? String(cell).padStart(9) : String(cell).padEnd(12))).join(''));
  line('target', 'cases', 'values', 'errors', 'faults', 'slowest', 'growth');
  let faultCount = 0;
  for (const [i, target] of chosen.entries()) {
    const share = Math.floor(cases / chosen.length) + (i < cases % chosen.length ? 1 : 0);
    if (share === 0) continue;
    const { faults, leftOut, done } = await fuzz({ target, seed, first, cases: share });
    if (leftOut !== null) {
      print(`${target.padEnd(12)} left out: ${leftOut}`);
      continue;
    }
    const measured = done
      ? [`${done.slowestMs.toFixed(0)} ms`, `${Math.round(done.growthBytes / 2 ** 20)} MiB`]
      : [];
    line(target, share, done?.values ?? '', done?.errors ?? '', faults.length, ...measured);
    for (const fault of faults.slice(0, SHOWN)) print(`  ${target} --seed ${seed}, ${fault}`);
    faultCount += faults.length;
  }
  return faultCount === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`fuzz: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
