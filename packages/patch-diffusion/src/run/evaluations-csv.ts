/**
 * `evaluations.csv`: the figures of `evaluations.jsonl` as a table, a row for each evaluation and three columns for each figure:
 * its value and the ends of its 95 % interval. It is made anew whenever there is another evaluation.
 */
import { join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { readEvaluations } from './evaluations.js';

/** Path of the table of a run. */
export const evaluationsCsv = (runDir: string): string => join(runDir, 'evaluations.csv');

/** Makes the table of all evaluations that there are. @throws the file system's error */
export async function writeEvaluationsCsv(runDir: string): Promise<void> {
  const lines = await readEvaluations(runDir);
  const names = [...new Set(lines.flatMap(({ metrics }) => Object.keys(metrics)))];
  const header = ['at', 'kimg', 'step', ...names.flatMap((name) => [name, `${name}_low`, `${name}_high`])];
  const rows = lines.map(({ at, nimg, step, metrics }) => [
    ...[at, nimg === null ? null : nimg / 1000, step],
    ...names.flatMap((name) => [metrics[name]?.value, metrics[name]?.low, metrics[name]?.high]),
  ]);
  // The names need no quotes: letters, digits and "_".
  await writeFileAtomic(
    evaluationsCsv(runDir),
    [header, ...rows].map((row) => `${row.map((value) => value ?? '').join(',')}\n`),
  );
}
