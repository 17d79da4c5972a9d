/** The end of the process, or a failing disk, at every single operation that changes files. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { folderDifference } from './contents.js';
import type { Fault } from './faults.js';
import { lastLine, run } from './program.js';
import { type Scenario, type Scope, spread } from './scenario.js';

/** Tries of each command when quick. */
const QUICK_TRIES = 4;

/** The operations of a command, in their order. */
async function operationsOf({ training }: Scope, args: readonly string[]): Promise<string[]> {
  const log = `${training.newPath()}.log`;
  const outcome = await run(args, { fault: { type: 'count', log } });
  if (outcome.code !== 0) throw new Error(`${args[0]} fails while it is only watched: ${outcome.output}`);
  return readFileSync(log, 'utf8').trim().split('\n');
}

/** A file of many parts is written in as many operations that are alike: the first, middle and last of them count. */
function oneWritePerFile(operations: readonly [number, string][]): [number, string][] {
  const groups: [number, string][][] = [];
  for (const operation of operations) {
    const isSame = operation[1] === 'write' && groups.at(-1)?.[0][1] === 'write';
    if (isSame) groups.at(-1)!.push(operation);
    else groups.push([operation]);
  }
  return groups.flatMap((group) => spread(group, 3));
}

/** Which of them are tried. */
async function chosen(scope: Scope, args: readonly string[], all: number): Promise<[number, string][]> {
  const operations = (await operationsOf(scope, args)).map((name, at): [number, string] => [at, name]);
  return spread(oneWritePerFile(operations), scope.quick ? QUICK_TRIES : all);
}

/** The operations of a new run, and a try for each: the run with a fault, then going on. */
async function trainingTries(scope: Scope, count: number, faultsAt: (at: number) => readonly Fault[]) {
  const { training } = scope;
  const watched = training.newPath();
  const operations = await chosen(scope, training.begin(watched), count);
  rmSync(watched, { recursive: true });
  return operations.flatMap(([at, operation]) =>
    faultsAt(at).map((fault) => ({
      name: `${fault.type === 'fail' ? fault.code : 'kill'} at operation ${at} (${operation})`,
      attempt: async () => {
        const out = training.newPath();
        await run(training.begin(out), { fault });
        return training.recovered(out);
      },
    })),
  );
}

const KILL = (at: number): Fault => ({ type: 'kill', at });

export const killsInTraining: Scenario = {
  name: 'kill at every file operation: train',
  prepare: (scope) => trainingTries(scope, Number.POSITIVE_INFINITY, (at) => [KILL(at)]),
};

/** What disks and systems say when they fail. */
const CODES = ['ENOSPC', 'EROFS', 'EIO', 'EMFILE'] as const;

export const failingDisk: Scenario = {
  name: `${CODES.join(', ')} from an operation on`,
  prepare: (scope) => {
    let next = 0;
    const codes = () => (scope.quick ? [CODES[next++ % CODES.length]] : CODES);
    return trainingTries(scope, 12, (at) => codes().map((code) => ({ type: 'fail', at, code })));
  },
};

/** A command that writes into a folder; the same command again must bring what it would have brought at once. */
function commandKills(
  name: string,
  argsOf: (scope: Scope) => ((out: string) => string[]) | string,
): Scenario {
  return {
    name: `kill at every file operation: ${name}`,
    prepare: async (scope) => {
      const { training } = scope;
      const args = argsOf(scope);
      if (typeof args === 'string') return { skipped: args };
      const whole = training.newPath();
      mkdirSync(whole);
      const operations = spread(
        await chosen(scope, args(whole), Number.POSITIVE_INFINITY),
        scope.quick ? 2 : Number.POSITIVE_INFINITY,
      );
      return operations.map(([at, operation]) => ({
        name: `operation ${at} (${operation})`,
        attempt: async () => {
          const out = training.newPath();
          mkdirSync(out);
          const killed = await run(args(out), { fault: KILL(at) });
          if (killed.signal !== 'SIGKILL') return `was not killed: ${lastLine(killed)}`;
          // What is there already is whole: then the command may refuse to replace it.
          if (folderDifference(out, whole) !== null) {
            const again = await run(args(out));
            if (again.code !== 0) return `the same command again failed: ${lastLine(again)}`;
          }
          const lost = folderDifference(out, whole);
          if (lost === null) rmSync(out, { recursive: true, force: true });
          return lost;
        },
      }));
    },
  };
}

export const otherCommands: readonly Scenario[] = [
  commandKills('prepare', ({ training }) => (out) => [
    ...['prepare', training.images, '--out', join(out, 'set.zip'), '--resolution', '16'],
  ]),
  commandKills('prepare to a folder', ({ training }) => (out) => [
    ...['prepare', training.images, '--out', join(out, 'set'), '--resolution', '16'],
  ]),
  commandKills('generate', ({ training }) => (out) => [
    ...['generate', '--run', training.whole, '--count', '3', '--steps', '1', '--out', join(out, 'images')],
    ...['--grid', join(out, 'sheet.png')],
  ]),
  commandKills('export', ({ training }) => (out) => [
    ...['export', '--run', training.whole, '--format', 'torch', '--out', join(out, 'weights.pt')],
  ]),
  commandKills('import', () => {
    const shared = process.env.SHARED_DIR ?? join(import.meta.dirname, '../../../../shared');
    const golden = process.env.GOLDEN_DIR ?? join(shared, 'golden');
    const checkpoint = join(golden, 'checkpoints/patch_ddpmpp/training-state-000012.pt');
    if (!existsSync(checkpoint)) return `there is no ${checkpoint}`;
    return (out) => ['import', checkpoint, '--out', join(out, 'state.safetensors')];
  }),
];
