/** `npm run bench -- step`: training steps of presets, ours beside PyTorch's. */
import type { PresetName } from 'patch-diffusion';
import type { BenchOptions } from './command-line.js';
import { compareSteps, mixRates, type StepComparison } from './compare-steps.js';
import { type ConvolutionRate, measureConvolutions } from './convolutions.js';
import type { Figure, Measurement } from './measurement.js';
import { log } from './progress.js';
import { pythonWithTorch } from './python.js';
import { bestPeer, type Ratios, ratiosOf } from './ratios.js';
import { type Peaks, stepReport } from './step-report.js';
import type { Spread } from './timing.js';

export async function measureSteps(options: BenchOptions): Promise<Measurement> {
  const python = options.peer ? pythonWithTorch() : null;
  const comparisons: StepComparison[] = [];
  for (const preset of options.presets) comparisons.push(await compareSteps(preset, options, python));
  const dtypes = [...new Set(comparisons.flatMap(({ sides }) => sides.map(({ dtype }) => dtype)))];
  log(`convolutions in ${dtypes.join(' and ')} …`);
  const convolutions = dtypes.flatMap((dtype) => measureConvolutions(options, dtype));
  return {
    figures: comparisons.flatMap(figuresOf),
    markdown: comparisons.map((comparison) => stepReport(comparison, peaksOf(convolutions))).join('\n\n'),
    details: { presets: Object.fromEntries(comparisons.map(detailsOf)), convolutions },
  };
}

/** Best convolution of each precision. */
function peaksOf(convolutions: readonly ConvolutionRate[]): Peaks {
  const peaks: Peaks = new Map();
  for (const { dtype, gflopPerSec } of convolutions)
    peaks.set(dtype, Math.max(gflopPerSec, peaks.get(dtype) ?? 0));
  return peaks;
}

/** Ours by patch size and for the mix, and the ratios. PyTorch's own speed is not what `--against` judges. */
function figuresOf(comparison: StepComparison): Figure[] {
  const { preset, sides, sizes, batch, clock } = comparison;
  const unit = clock === 'cpu' ? 'images/s of processor time' : 'images/s';
  const mixes = mixRates(comparison, clock);
  const rates = sides.flatMap(({ name, role, steps }, k): Figure[] => {
    if (role !== 'ours' && role !== 'ours-fp32') return [];
    const perSize = sizes.map(({ width, multiplier }, i): Figure => {
      const values = steps[i].map((seconds) => (batch * multiplier) / seconds[clock]);
      return { name: `${preset} ${width} px, ${name}`, unit, better: 'higher', values };
    });
    return [...perSize, { name: `${preset} mix, ${name}`, unit, better: 'higher', values: mixes[k].rates }];
  });
  const mine = mixes.find(({ role }) => role === 'ours')!;
  const official = mixes.find(({ role }) => role === 'official');
  if (!official) return rates;
  const values = mine.rates.map((rate, i) => rate / official.rates[i]);
  return [
    ...rates,
    { name: `${preset} mix, ${mine.name} over eager fp32 PyTorch`, unit: '×', better: 'higher', values },
  ];
}

function detailsOf(comparison: StepComparison): [PresetName, object] {
  const { preset, clock, ...rest } = comparison;
  const [main, wall] = [clock, 'wall' as const].map((by) => ratiosOf(mixRates(comparison, by)));
  return [
    preset,
    {
      ratios: main && medians(main),
      ratiosByWallTime: wall && medians(wall),
      ratioSpreads: main,
      bestPyTorch: bestPeer(mixRates(comparison, clock))?.name ?? null,
      ...rest,
    },
  ];
}

function medians({ officialSettings, bestPyTorch, fp32 }: Ratios<Spread>): Ratios {
  return { officialSettings: officialSettings.median, bestPyTorch: bestPyTorch.median, fp32: fp32.median };
}
