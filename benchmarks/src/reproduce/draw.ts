/** docs/results.md: a chart and a table for each set of images and budget. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { table } from '../markdown.js';
import { type Comparison, compare, type Factor, type Interval, SHARES } from './analysis.js';
import { beds } from './beds.js';
import { curvesSvg } from './curves.js';
import { recipes } from './recipes.js';
import type { Result } from './results.js';

const HEAD = `# Results

Whole images against patches, at equal processor time of training. Written by \`npm run reproduce\` from the lines in
\`benchmarks/results/\`; \`npm run reproduce -- --help\` lists the recipes and how to run them again.

- **Network and averaging are the same** on both sides: preset \`tiny\` (1.3 million weights; else the set says so), one thread, bfloat16 where the
  processor is faster in it, a linear cooldown of the learning rate over the last fifth.
- **Time** is processor time of updates. Evaluations, files and sheets are not in it.
- **Loss** is the denoising loss of 256 whole images that the run never trains on, averaged weights. All recipes of a seed
  have the same ones.
- **The baseline** is the best of the recipes with whole images, by its mean final loss on that set and budget, of those with
  the most seeds: Adam, one of several batch sizes and learning rates.
- **Factor** is the budget ÷ the time of a recipe's first evaluation at or below the baseline's final loss with the same seed:
  geometric mean, with a 95 % interval over seeds (Student's t). A recipe that ends above that loss has no time; these seeds
  are counted as "not reached" and are not in the mean. **Equal** is the same against the best of the whole images that have
  what the recipe has beyond the paper (Muon), and against the baseline for the others: at 10, 25, 50 and 100 % of the budget, against
  what those had reached by then. **PyTorch** is the same against the
  published recipe as eager float32 PyTorch runs it (our own script, benchmarks/peer/train.py).
- **Samples**: the other columns are figures of 256 samples at the end of a run, seeds 0 to 255, under the names of
  \`evaluate --json\` ([evaluation](evaluation.md)). \`fd\` is the Fréchet distance of features of a small classifier, which
  \`evaluate\` trains on the classes of the set, to 256 held-out images; the networks see no classes. It is measured at each
  fifth of the budget, and **factor by FD** is as the factor above, with the time of an equal distance taken between two
  measurements.
`;

/** Writes `results.md` and its charts into a folder of documents. */
export async function drawResults(results: readonly Result[], docs: string): Promise<void> {
  await mkdir(join(docs, 'images'), { recursive: true });
  const parts: string[] = [HEAD];
  for (const bed of Object.keys(beds)) {
    const ofBed = results.filter((result) => result.bed === bed);
    const budgets = [...new Set(ofBed.map(({ budgetSec }) => budgetSec))].sort((a, b) => a - b);
    for (const budgetSec of budgets) {
      // Processor time means the same on one machine only.
      const ofBudget = ofBed.filter((result) => result.budgetSec === budgetSec);
      const machines = new Set(ofBudget.map(({ cpu }) => cpu));
      for (const [k, cpu] of [...machines].entries()) {
        const here = ofBudget.filter((result) => result.cpu === cpu);
        const comparison = compare(here, bed, budgetSec);
        if (!comparison) continue;
        const image = `results-${bed}-${budgetSec}s${k ? `-${k + 1}` : ''}.svg`;
        const shown = comparison.rows.map(({ recipe }) => recipe);
        const svg = await curvesSvg(here, bed, budgetSec, shown);
        await torch.writeFileAtomic(join(docs, 'images', image), svg);
        parts.push(section(comparison, cpu, image));
      }
    }
  }
  const failures = results.filter(({ status }) => status === 'failed');
  if (failures.length) parts.push(failureSection(failures));
  parts.push(machineSection(results));
  await torch.writeFileAtomic(join(docs, 'results.md'), `${parts.join('\n')}`);
}

function section({ bed, budgetSec, baseline, rows }: Comparison, cpu: string, image: string): string {
  const minutes = `${Number((budgetSec / 60).toFixed(1))} processor minutes`;
  const figures = [...new Set(rows.flatMap(({ samples }) => Object.keys(samples)))];
  const hasPytorch = rows.some(({ pytorch }) => pytorch !== null);
  const hasFd = rows.some(({ factorByFd }) => factorByFd !== null);
  const lines = rows.map(({ recipe, seeds, finalLoss, samples, factor, factorByFd, equal, pytorch }) => [
    recipe === baseline ? `**${recipe}** (baseline)` : recipe,
    recipes[recipe].summary,
    seeds.join(', '),
    intervalText(finalLoss, 4),
    recipe === baseline ? '1' : factorText(factor),
    ...(hasFd ? [recipe === baseline ? '1' : factorText(factorByFd)] : []),
    ...SHARES.map((_, i) => (equal ? shortText(equal[i]) : '')),
    ...(hasPytorch ? [pytorch ? factorText(pytorch) : ''] : []),
    ...figures.map((name) => (samples[name] ? intervalText(samples[name], 4) : '–')),
  ]);
  return `
## ${bed}, ${minutes}

${beds[bed].summary}. One core of: ${cpu}.

![Held-out loss against processor time, ${bed}, ${minutes}](images/${image})

${table(['recipe', '', 'seeds', 'final loss', 'factor', ...(hasFd ? ['factor by FD'] : []), ...SHARES.map((share) => `equal at ${100 * share} %`), ...(hasPytorch ? ['PyTorch'] : []), ...figures], lines)}
`;
}

function factorText(factor: Factor | null): string {
  if (!factor) return '–';
  const { value, missed } = factor;
  const reached = value ? [`${intervalText(value, 2)} ×`] : [];
  const notReached = missed ? [`not reached: ${missed} of ${missed + (value?.n ?? 0)} seeds`] : [];
  return [...reached, ...notReached].join('; ');
}

/** The mean alone; the intervals of all would fill the page. */
function shortText({ value, missed }: Factor): string {
  if (value && missed) return `${value.mean.toFixed(2)} × (${missed} not)`;
  return value ? `${value.mean.toFixed(2)} ×` : 'not reached';
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
