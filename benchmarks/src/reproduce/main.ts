/** `npm run reproduce`: trains and evaluates a grid of runs, and draws docs/results.md from all results so far. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { processorKind } from '../machine.js';
import { log } from '../progress.js';
import { UsageError } from '../usage-error.js';
import { beds, bedVariables, fileOf, presentBeds } from './beds.js';
import { drawResults } from './draw.js';
import { type Grid, openRuns, runsOf } from './grid.js';
import { type RecipeName, recipeNames, recipes } from './recipes.js';
import { addResult, type RunKey, readResults, runName } from './results.js';
import { runOnce } from './run.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const RESULTS = join(ROOT, 'benchmarks/results/recipes.jsonl');

const list = (all: Readonly<Record<string, { readonly summary: string }>>) =>
  Object.entries(all)
    .map(([name, { summary }]) => `  ${name.padEnd(18)}  ${summary}`)
    .join('\n');

const HELP = `Trains recipes on sets of images and shows how fast each becomes good: docs/results.md.

Usage: npm run reproduce -- [options]

Each run has one thread and a budget of processor time, so that other work on the machine matters little. A run that is done
is one line of benchmarks/results/recipes.jsonl; what is there of this kind of
machine is not trained again. Ctrl-C saves; the same command continues.

Options
  --bed NAME       set of images; may be repeated; default: the whole ones that are there
  --recipe NAME    may be repeated; default: whole-b8, whole-b16, published, annealed
  --seed N         may be repeated; default: 1, 2 and 3
  --minutes N      processor minutes of training a run; default 10
  --jobs N         runs side by side; default 1
  --work DIR       folder for runs; default: runs/reproduce
  --list           says what would be trained, and stops
  --draw           only draws docs/results.md
  --help

Sets of images: drawn, from a shared folder (SHARED_DIR), or from files that environment variables name (below)
${list(beds)}
  ${bedVariables.join(', ')}

Recipes
${list(recipes)}
`;

interface CommandLine extends Grid {
  readonly jobs: number;
  readonly work: string;
  readonly list: boolean;
  readonly draw: boolean;
}

function parseCommandLine(args: readonly string[]): CommandLine | null {
  const many = { type: 'string', multiple: true } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...{ bed: many, recipe: many, seed: many, minutes: { type: 'string' }, jobs: { type: 'string' } },
      ...{
        work: { type: 'string' },
        list: { type: 'boolean' },
        draw: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    },
  });
  if (values.help) return null;
  return {
    beds: (values.bed ?? presentBeds()).map((name) => oneOf('--bed', name, Object.keys(beds))),
    recipes: (values.recipe ?? ['whole-b8', 'whole-b16', 'published', 'annealed']).map((name) =>
      oneOf('--recipe', name, recipeNames),
    ) as RecipeName[],
    seeds: (values.seed ?? ['1', '2', '3']).map((text) => number('--seed', text, Number.isInteger)),
    budgetSec: number('--minutes', values.minutes ?? '10', (value) => value > 0) * 60,
    jobs: number('--jobs', values.jobs ?? '1', (value) => Number.isInteger(value) && value > 0),
    work: values.work ?? join(ROOT, 'runs/reproduce'),
    list: values.list ?? false,
    draw: values.draw ?? false,
  };
}

function oneOf(option: string, name: string, names: readonly string[]): string {
  if (names.includes(name)) return name;
  throw new UsageError(`${option} ${name}: there is ${names.join(', ')}`);
}

function number(option: string, text: string, isGood: (value: number) => boolean): number {
  const value = Number(text);
  if (text.trim() !== '' && isGood(value)) return value;
  throw new UsageError(`${option} ${text}: not such a number`);
}

async function main(): Promise<void> {
  const line = parseCommandLine(process.argv.slice(2));
  if (!line) {
    process.stdout.write(HELP);
    return;
  }
  const open = openRuns(runsOf(line), await readResults(RESULTS), processorKind());
  if (line.list) {
    process.stdout.write(open.map((run) => `${runName(run)}\n`).join(''));
    return;
  }
  if (!line.draw) await trainAll(open, line);
  await drawResults(await readResults(RESULTS), join(ROOT, 'docs'));
  log('Drew docs/results.md.');
}

/** Trains run after run, some side by side, until all are done or a signal comes. */
async function trainAll(runs: readonly RunKey[], { jobs, work }: CommandLine): Promise<void> {
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort());
  // Before runs side by side want it at the same time.
  for (const bed of new Set(runs.map((run) => run.bed))) await fileOf(bed, work, abort.signal);
  const queue = [...runs];
  // One line at a time is appended.
  let writing: Promise<void> = Promise.resolve();
  const worker = async () => {
    for (let run = queue.shift(); run && !abort.signal.aborted; run = queue.shift()) {
      log(`${runName(run)} (${queue.length} more)`);
      const result = await runOnce(run, { work, signal: abort.signal });
      if (!result) return;
      writing = writing.then(() => addResult(RESULTS, result));
      await writing;
      const last = result.points.at(-1);
      if (last)
        log(`  ${runName(run)}: held-out loss ${last.heldOutLoss.toFixed(4)}, ${last.kimg.toFixed(1)} kimg`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  if (abort.signal.aborted) process.exitCode = 130;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`reproduce: ${error instanceof Error ? error.message : String(error)}\n`);
  const isUsage =
    error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  process.exitCode = isUsage ? 2 : 1;
}
