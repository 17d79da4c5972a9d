/** Figures of `evaluate` that a run has, as columns over its training. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Columns, NoiseLosses } from './api.js';

/** What is drawn of a line; the rest of it is in docs/evaluation.md. */
const lineSchema = z.object({
  nimg: z.number(),
  step: z.number(),
  at: z.string(),
  metrics: z.record(z.string(), z.object({ value: z.number() }).nullish()),
  data: z.object({ isHeldOut: z.boolean() }).nullish(),
  curves: z
    .object({
      sigmas: z.array(z.number()),
      judged: z.array(z.number()),
      training: z.array(z.number()).nullable(),
      patches: z.record(z.string(), z.array(z.number())),
    })
    .nullish(),
});

/** What is drawn of the evaluations of a run. */
export interface Evaluations {
  /** One value per evaluation, in the order of the training; keys are `Evaluation/` and the name of the figure. */
  readonly evaluations: Columns;
  readonly noise: NoiseLosses | null;
}

export async function readEvaluations(runDir: string): Promise<Evaluations> {
  const text = await readFile(join(runDir, 'evaluations.jsonl'), 'utf8').catch(() => '');
  const lines = text
    .split('\n')
    .flatMap((line) => parse(line))
    .sort((a, b) => a.nimg - b.nimg);
  if (lines.length === 0) return { evaluations: {}, noise: null };
  const names = new Set(lines.flatMap(({ metrics }) => Object.keys(metrics)));
  const figures = [...names].map((name): [string, (number | null)[]] => [
    `Evaluation/${name}`,
    lines.map(({ metrics }) => metrics[name]?.value ?? null),
  ]);
  const evaluations = {
    'Progress/kimg': lines.map(({ nimg }) => nimg / 1000),
    'Progress/step': lines.map(({ step }) => step),
    timestamp: lines.map(({ at }) => Date.parse(at) / 1000),
    ...Object.fromEntries(figures),
  };
  return { evaluations, noise: newestCurves(lines) };
}

function newestCurves(lines: readonly z.infer<typeof lineSchema>[]): NoiseLosses | null {
  const { nimg, data, curves } = lines.findLast((line) => line.curves) ?? {};
  if (nimg === undefined || !curves) return null;
  return { kimg: nimg / 1000, isHeldOut: data?.isHeldOut ?? false, ...curves };
}

/** Nothing for a line that is damaged, still being written, or of a snapshot that nobody knows the age of. */
function parse(line: string): z.infer<typeof lineSchema>[] {
  try {
    return [lineSchema.parse(JSON.parse(line))];
  } catch {
    return [];
  }
}
