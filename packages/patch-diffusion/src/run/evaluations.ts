/** The evaluations of a run, `evaluations.jsonl`, and which of its snapshots is the best. */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { nimgInName } from './file-names.js';
import { listSnapshots } from './runs.js';
import { readStats, type Stat } from './stats.js';

/** Name of the file in a run folder. */
export const EVALUATIONS = 'evaluations.jsonl';

/** A figure with the ends of its 95 % interval. */
export interface MeasuredFigure {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly n: number;
}

/** What is relied on of a line; all keys are in docs/evaluation.md. */
export interface EvaluationLine {
  /** Images that the network was trained on. */
  readonly nimg: number | null;
  readonly step: number | null;
  /** ISO 8601. */
  readonly at: string;
  readonly snapshot: string | null;
  readonly data: { readonly path: string; readonly isHeldOut: boolean } | null;
  readonly metrics: Readonly<Record<string, MeasuredFigure | undefined>>;
}

/**
 * Evaluations of a run, oldest first; damaged lines are left out, and a run without any has none.
 * @example
 * ```ts
 * for (const { nimg, metrics } of await readEvaluations('runs/00000-photos'))
 *   console.log(nimg, metrics.heldOutLoss?.value);
 * ```
 */
export async function readEvaluations(runDir: string): Promise<EvaluationLine[]> {
  const text = await readFile(join(runDir, EVALUATIONS), 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => {
    const found = parseEvaluation(line);
    return found ? [found] : [];
  });
}

/** A line of the file, or null where it is damaged. */
export function parseEvaluation(line: string): EvaluationLine | null {
  try {
    const found = JSON.parse(line) as EvaluationLine;
    return typeof found.metrics === 'object' && found.metrics !== null ? found : null;
  } catch {
    return null;
  }
}

export interface BestSnapshot {
  readonly file: string;
  readonly heldOutLoss: number;
  /** Whether the loss is that of an evaluation, over fixed noise levels, or that of a tick. */
  readonly from: 'evaluation' | 'tick';
}

/**
 * The snapshot of a run with the lowest held-out loss: by its evaluations, which measure all alike; where none has one, by
 * the losses of its ticks. Null where none was measured.
 * @param lossesOf held-out losses of ticks by images, for readers that know a quicker way than reading all lines
 */
export async function bestSnapshot(
  runDir: string,
  lossesOf: (runDir: string, files: readonly string[]) => Promise<ReadonlyMap<number, number>> = tickLosses,
): Promise<BestSnapshot | null> {
  const files = await listSnapshots(runDir);
  const evaluated = lowest(files, await evaluatedLosses(runDir));
  if (evaluated) return { ...evaluated, from: 'evaluation' };
  const byTick = await lossesOf(runDir, files);
  const found = lowest(files, (file) => byTick.get(nimgInName(file)));
  return found && { ...found, from: 'tick' };
}

function lowest(
  files: readonly string[],
  lossOf: (file: string) => number | undefined,
): { file: string; heldOutLoss: number } | null {
  let best: { file: string; heldOutLoss: number } | null = null;
  for (const file of files) {
    const heldOutLoss = lossOf(file);
    if (heldOutLoss !== undefined && heldOutLoss < (best?.heldOutLoss ?? Number.POSITIVE_INFINITY))
      best = { file, heldOutLoss };
  }
  return best;
}

/** Losses on the same images as the newest evaluation, by the snapshot's file; a run may have moved since. */
async function evaluatedLosses(runDir: string): Promise<(file: string) => number | undefined> {
  const lines = (await readEvaluations(runDir)).filter(
    ({ metrics, snapshot }) => metrics.heldOutLoss && snapshot !== null,
  );
  const last = lines.at(-1);
  const isAlike = ({ data, metrics }: EvaluationLine) =>
    data?.path === last?.data?.path && metrics.heldOutLoss?.n === last?.metrics.heldOutLoss?.n;
  const losses = new Map(
    lines.filter(isAlike).map((line) => [basename(line.snapshot!), line.metrics.heldOutLoss!.value]),
  );
  return (file) => losses.get(basename(file));
}

/** Held-out losses of the ticks, by images. */
async function tickLosses(runDir: string): Promise<Map<number, number>> {
  const losses = new Map<number, number>();
  for (const line of await readStats(runDir)) {
    const mean = (name: string) => (line[name] as Stat | undefined)?.mean;
    const [kimg, loss] = [mean('Progress/kimg'), mean('Loss/held_out')];
    // A loss that was not finite is null in the file.
    if (typeof kimg === 'number' && typeof loss === 'number') losses.set(Math.round(kimg * 1000), loss);
  }
  return losses;
}
