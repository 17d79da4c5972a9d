/** `npm run torture`: harms trainings and other commands in every way that we know, and looks for what is lost. */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomFrom } from '../random.js';
import { randomKills, signals } from './kills.js';
import { clocks, fewFiles, littleMemory, smallDisks } from './limits.js';
import { races, staleLocks } from './locks.js';
import { failingDisk, killsInTraining, otherCommands } from './operations.js';
import type { Scenario, Scope } from './scenario.js';
import { Training } from './training.js';

const HELP = `Harms short trainings and other commands, goes on with them, and compares the result with that of a run that
nothing happened to: every file, bit for bit. Prints a table; exit status 1 when anything was lost.

  npm run torture                         everything, about 20 minutes
  npm run torture -- --quick              some tries of each kind, about a minute
  npm run torture -- --only lock,disk     the scenarios whose names contain one of these words
  npm run torture -- --kills 1000 --only random

  --quick        some tries of each kind
  --only WORDS   separated by commas
  --kills N      kill -9 at random moments (default 100)
  --seed N       of the random moments (default: the time)
  --jobs N       tries at a time (default: one per core)
  --help
`;

const SCENARIOS: readonly Scenario[] = [
  ...[randomKills, killsInTraining, ...otherCommands, signals, smallDisks],
  ...[failingDisk, fewFiles, littleMemory, clocks, races, staleLocks],
];

interface Row {
  readonly name: string;
  readonly tries: number;
  readonly lost: readonly string[];
  readonly skipped?: string;
}

function options() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
      kills: { type: 'string', default: '100' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      jobs: { type: 'string', default: String(availableParallelism()) },
      help: { type: 'boolean', default: false },
    },
  });
  const count = (name: 'kills' | 'seed' | 'jobs') => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= (name === 'seed' ? 0 : 1)) return value;
    throw new Error(`--${name} ${values[name]} is not a number of that kind; see --help`);
  };
  const words = values.only.split(',').filter(Boolean);
  const chosen = SCENARIOS.filter(
    ({ name }) => words.length === 0 || words.some((word) => name.includes(word)),
  );
  if (chosen.length === 0)
    throw new Error(
      `--only ${values.only}: there is no such scenario; there are: ${SCENARIOS.map((s) => s.name).join('; ')}`,
    );
  return { ...values, kills: count('kills'), seed: count('seed'), jobs: count('jobs'), chosen };
}

/** All tries of a scenario, some at a time. */
async function tryAll({ name, prepare }: Scenario, scope: Scope, jobs: number): Promise<Row> {
  const tries = await prepare(scope);
  if ('skipped' in tries) return { name, tries: 0, lost: [], skipped: tries.skipped };
  const waiting = tries.values();
  const lost: string[] = [];
  const work = async () => {
    for (const { name: what, attempt } of waiting) {
      const reason = await attempt().catch((error: unknown) => `the try failed: ${(error as Error).stack}`);
      if (reason !== null) lost.push(`${what}: ${reason}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return { name, tries: tries.length, lost };
}

function tableLine({ name, tries, lost, skipped }: Row): string {
  const cells = skipped
    ? `left out: ${skipped}`
    : `${tries}`.padStart(5) + `${tries - lost.length}`.padStart(10) + `${lost.length}`.padStart(6);
  return name.padEnd(48) + cells;
}

async function main(): Promise<number> {
  const { help, quick, kills, seed, jobs, chosen } = options();
  const print = (text: string) => process.stdout.write(`${text}\n`);
  if (help) {
    print(HELP.trimEnd());
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), 'patch-diffusion-torture-'));
  print(`seed ${seed}, ${jobs} at a time, in ${folder}\n`);
  const begin = performance.now();
  const scope = { training: await Training.prepare(folder), quick, kills, random: randomFrom(seed) };
  print(`${'scenario'.padEnd(48)}tries  survived  lost`);
  const rows: Row[] = [];
  for (const scenario of chosen) {
    const row = await tryAll(scenario, scope, jobs);
    rows.push(row);
    print(tableLine(row));
    for (const reason of row.lost) print(`  lost: ${reason}`);
  }
  const all = {
    name: 'all',
    tries: rows.reduce((sum, row) => sum + row.tries, 0),
    lost: rows.flatMap((row) => row.lost),
  };
  print(`${tableLine(all)}\n\n${((performance.now() - begin) / 1000).toFixed(0)} s`);
  if (all.lost.length > 0) {
    print(`The folders of what was lost are kept in ${folder}; the same again: --seed ${seed}`);
    return 1;
  }
  rmSync(folder, { recursive: true, force: true });
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`torture: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
