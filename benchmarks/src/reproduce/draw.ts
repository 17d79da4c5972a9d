/** docs/results.md: a chart and a table for each set of images and budget. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { table } from '../markdown.js';
import { type Comparison, compare, type Interval } from './analysis.js';
import { beds } from './beds.js';
import { curvesSvg } from './curves.js';
import { recipes } from './recipes.js';
import type { Result } from './results.js';

const HEAD = `# Results

Whole images against patches, at equal processor time of training. Written by \`npm run reproduce\` from the lines in
\`benchmarks/results/\`; \`npm run reproduce -- --help\` lists the recipes and how to run them again.

- **Network and averaging are the same** on both sides: preset \`tiny\` (1.3 million weights), one thread, bfloat16 where the
  processor is faster in it, a linear cooldown of the learning rate over the last fifth.
- **Time** is processor time of updates. Evaluations, files and sheets are not in it.
- **Loss** is the denoising loss of 256 whole images that the run never trains on, averaged weights. All recipes of a seed
  have the same ones.
- **The baseline** is the best of the recipes with whole images, by its mean final loss on that set and budget.
- **Factor** is the budget ÷ the time of a recipe's first evaluation at or below the baseline's final loss with the same seed:
  geometric mean, with a 95 % interval over seeds (Student's t). A recipe that ends above that loss has no time; these seeds
  are counted as "not reached" and are not in the mean.
- **Samples**: the other columns are figures of 256 samples at the end of a run, seeds 0 to 255, under the names of
  \`evaluate --json\` ([evaluation](evaluation.md)).
`;

/** Writes `results.md` and its charts into a folder of documents. */
export async function drawResults(results: readonly Result[], docs: string): Promise<void> {
  await mkdir(join(docs, 'images'), { recursive: true });
  const parts: string[] = [HEAD];
  for (const bed of Object.keys(beds)) {
    const budgets = [
      ...new Set(results.filter((result) => result.bed === bed).map(({ budgetSec }) => budgetSec)),
    ];
    for (const budgetSec of budgets.sort((a, b) => a - b)) {
      const comparison = compare(results, bed, budgetSec);
      if (!comparison) continue;
      const image = `results-${bed}-${budgetSec}s.svg`;
      const shown = comparison.rows.map(({ recipe }) => recipe);
      await torch.writeFileAtomic(
        join(docs, 'images', image),
        await curvesSvg(results, bed, budgetSec, shown),
      );
      parts.push(section(comparison, image));
    }
  }
  const failures = results.filter(({ status }) => status === 'failed');
  if (failures.length) parts.push(failureSection(failures));
  parts.push(machineSection(results));
  await torch.writeFileAtomic(join(docs, 'results.md'), `${parts.join('\n')}`);
}

function section({ bed, budgetSec, baseline, rows }: Comparison, image: string): string {
  const minutes = `${Number((budgetSec / 60).toFixed(1))} processor minutes`;
  const figures = [...new Set(rows.flatMap(({ samples }) => Object.keys(samples)))];
  const lines = rows.map(({ recipe, seeds, finalLoss, samples, factor, missed }) => [
    recipe === baseline ? `**${recipe}** (baseline)` : recipe,
    recipes[recipe].summary,
    seeds.join(', '),
    intervalText(finalLoss, 4),
    recipe === baseline ? '1' : factorText(factor, missed),
    ...figures.map((name) => (samples[name] ? intervalText(samples[name], 4) : '–')),
  ]);
  return `
## ${bed}, ${minutes}

${beds[bed].summary}.

![Held-out loss against processor time, ${bed}, ${minutes}](images/${image})

${table(['recipe', '', 'seeds', 'final loss', 'factor', ...figures], lines)}
`;
}

function factorText(factor: Interval | null, missed: number): string {
  const missedText = missed ? `not reached: ${missed} of ${missed + (factor?.n ?? 0)} seeds` : '';
  if (!factor) return missedText || '–';
  return [`${intervalText(factor, 2)} ×`, ...(missedText ? [missedText] : [])].join('; ');
}

function intervalText({ mean, low, high, n }: Interval, decimals: number): string {
  const text = (value: number) => value.toFixed(decimals);
  return n === 1 ? text(mean) : `${text(mean)} (${text(low)} … ${text(high)})`;
}

function failureSection(failures: readonly Result[]): string {
  const lines = failures.map(({ bed, recipe, seed, error }) => [bed, recipe, String(seed), error ?? '']);
  return `
## Runs that failed

${table(['set', 'recipe', 'seed', 'message'], lines)}
`;
}

function machineSection(results: readonly Result[]): string {
  const kinds = new Map<string, number>();
  for (const { cpu, libtorch, node, commit } of results) {
    const kind = `${cpu}, libtorch ${libtorch}, Node ${node}, commit ${commit}`;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return `
## Machines

${[...kinds].map(([kind, count]) => `- ${kind}: ${count} ${count === 1 ? 'run' : 'runs'}`).join('\n')}
`;
}
