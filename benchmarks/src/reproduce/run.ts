/** One run: the command line trains in a process of its own, and its statistics become a result. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type TrainOptionsInput, version } from 'patch-diffusion';
import { readEvaluations, readRunJson, readStats, type Stat } from 'patch-diffusion/run';
import { describeMachine, processorKind } from '../machine.js';
import { log } from '../progress.js';
import { type Bed, beds, fileOf, HELD_OUT } from './beds.js';
import { runProgram } from './program.js';
import { type Recipe, type RecipeName, recipes } from './recipes.js';
import { type Point, type Result, type RunKey, runName } from './results.js';
import { trainPeer } from './train-peer.js';

/** A run is evaluated at least this often: each 4 % of its budget. */
const EVALUATIONS = 25;
/** Processor seconds of the short run that says how many images a recipe sees in a second. */
const TRIAL_SEC = 8;
/** Samples are measured after so many of these evaluations, and at the end: each fifth of the budget. */
const SAMPLE_TICKS = 5;
/** Samples that are measured each time, seeds 0 to 255. */
const SAMPLES = 256;

/** What a run needs beside its key. */
export interface RunContext {
  /** Holds the run folders. */
  readonly work: string;
  readonly signal: AbortSignal;
}

/**
 * Trains, or goes on with a run that was interrupted.
 * @returns the result, also of a run that failed; null when interrupted
 */
export async function runOnce(key: RunKey, context: RunContext): Promise<Result | null> {
  const bed = beds[key.bed];
  const recipe = recipes[key.recipe as RecipeName];
  const options: Options = {
    ...{ preset: 'tiny', ...bed.options, ...recipe.options, seed: key.seed, holdout: HELD_OUT, threads: 1 },
    // No end by images.
    ...{ maxCpuSec: key.budgetSec, durationKimg: 100_000, sampleTicks: null },
    data: await fileOf(key.bed, context.work, context.signal),
  };
  const { points, error } = await (recipe.kind === 'pytorch' ? trainInPython : trainHere)(
    key,
    options,
    context,
  );
  if (context.signal.aborted) return null;
  return {
    ...key,
    status: error === null ? 'done' : 'failed',
    ...(error === null ? {} : { error }),
    points,
    command: commandText({ ...options, data: `<${key.bed}>` }, recipe),
    ...environment(),
  };
}

type Options = TrainOptionsInput & { readonly data: string };

/** What of samples is measured while training; that is no training time. */
function sampleOptions({ metrics }: Bed): TrainOptionsInput {
  if (metrics.length === 0) return {};
  const usesFeatures = metrics.some((metric) => metric === 'fd' || metric === 'kid');
  return {
    ...{ evalTicks: SAMPLE_TICKS, evalMetrics: metrics, evalCount: SAMPLES },
    ...(usesFeatures ? { evalFeatures: 'classifier' } : {}),
  };
}

interface Outcome {
  readonly points: readonly Point[];
  readonly error: string | null;
}

async function trainHere(key: RunKey, options: Options, context: RunContext): Promise<Outcome> {
  const dir = join(context.work, runName(key));
  const before = existsSync(join(dir, 'run.json')) ? await readRunJson(dir) : null;
  // A run that is done would be trained for as long again.
  if (before?.status === 'done') return { points: await readPoints(dir), error: null };
  const flags = before
    ? { resume: dir }
    : {
        ...{ ...options, ...sampleOptions(beds[key.bed]), out: dir, nosubdir: true },
        tickKimg: await tickKimg(key, options, context),
      };
  const error = await train(flags, context.signal);
  const points = await readPoints(dir);
  return { points, error: error ?? (points.length ? null : 'no evaluation was written') };
}

/** Python begins anew where it was interrupted: its runs are for comparison only. */
async function trainInPython(
  { budgetSec }: RunKey,
  options: Options,
  { signal }: RunContext,
): Promise<Outcome> {
  try {
    const points = await trainPeer({ options, budgetSec, evaluations: EVALUATIONS }, signal);
    return { points, error: null };
  } catch (error) {
    return { points: [], error: (error as Error).message };
  }
}

/** Ticks that give {@link EVALUATIONS} evaluations, from the speed of a short run. */
async function tickKimg(key: RunKey, options: Options, { work, signal }: RunContext): Promise<number> {
  const dir = join(work, `trial-${runName(key)}`);
  await rm(dir, { recursive: true, force: true });
  const short = {
    ...options,
    maxCpuSec: TRIAL_SEC,
    stateTicks: null,
    snapshotTicks: null,
    tickKimg: 100_000,
  };
  const error = await train({ ...short, out: dir, nosubdir: true }, signal);
  const last = (await readPoints(dir)).at(-1);
  await rm(dir, { recursive: true, force: true });
  if (error !== null || !last)
    throw new Error(`the trial of ${runName(key)} failed: ${error ?? 'interrupted'}`);
  return (last.kimg / last.cpuSec) * (key.budgetSec / EVALUATIONS);
}

/** Runs `train`. @returns its last line where it failed, or null */
async function train(options: TrainOptionsInput, signal: AbortSignal): Promise<string | null> {
  const line = await runProgram(['train', ...flagsOf(options)], signal);
  if (line !== null && !signal.aborted) log(`  failed: ${line}`);
  return line;
}

/** The evaluations of a run so far. */
async function readPoints(dir: string): Promise<Point[]> {
  const value = (stat: Stat | number | undefined) => (typeof stat === 'object' ? stat.mean : Number.NaN);
  const measured = await readSamples(dir);
  const points = (await readStats(dir)).map((line) => ({
    cpuSec: value(line['Timing/train_cpu_sec']),
    wallSec: value(line['Timing/total_sec']),
    kimg: value(line['Progress/kimg']),
    heldOutLoss: value(line['Loss/held_out']),
  }));
  return points
    .filter(({ heldOutLoss }) => Number.isFinite(heldOutLoss))
    .map((point) => {
      // Both tell the images of the same tick, one of them rounded.
      const samples = measured.find(({ nimg }) => Math.abs(nimg / 1000 - point.kimg) < 0.001)?.figures;
      return samples ? { ...point, samples } : point;
    });
}

/** Figures of samples after so many images. */
async function readSamples(
  dir: string,
): Promise<{ readonly nimg: number; readonly figures: Readonly<Record<string, number>> }[]> {
  const evaluations = await readEvaluations(dir);
  return evaluations.map(({ nimg, metrics }) => ({
    nimg: nimg ?? 0,
    figures: Object.fromEntries(
      Object.entries(metrics).flatMap(([name, figure]) => (figure ? [[name, figure.value]] : [])),
    ),
  }));
}

function commandText(options: Options, { kind }: Recipe): string {
  if (kind === 'pytorch') return 'benchmarks/peer/train.py';
  return ['patch-diffusion train', ...flagsOf(options)].join(' ');
}

/** Options as on the command line: `maxCpuSec: 60` is `--max-cpu-sec 60`. */
function flagsOf(options: TrainOptionsInput): string[] {
  return Object.entries(options).map(
    ([name, value]) =>
      `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}=${value ?? 'none'}`,
  );
}

function environment(): Pick<Result, 'commit' | 'cpu' | 'node' | 'libtorch' | 'date'> {
  const { node, libtorch, date } = describeMachine('cpu');
  return { commit: commit(), cpu: processorKind(), node, libtorch, date };
}

/** The commit of the working tree, or the version where this is no git clone. */
function commit(): string {
  try {
    const options = { cwd: fileURLToPath(new URL('.', import.meta.url)), encoding: 'utf8' } as const;
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      ...options,
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return version;
  }
}
