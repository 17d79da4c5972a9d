/** Report of `step`: Markdown tables for docs/performance.md. */
import { mixRates, type StepComparison } from './compare-steps.js';
import type { ConvolutionRate } from './convolutions.js';
import { digits, duration, percent, table, times } from './markdown.js';
import { bestPeer, ratiosOf } from './ratios.js';
import { median, type StepSeconds } from './timing.js';
import type { StepTimes } from './training-step.js';

/** GFLOP/s of the best convolution, by precision. */
export type Peaks = Map<ConvolutionRate['dtype'], number>;

export function stepReport(comparison: StepComparison, peaks: Peaks): string {
  const { preset, parameters, batch } = comparison;
  const peakText = [...peaks].map(([dtype, rate]) => `${digits(rate)} GFLOP/s in ${dtype}`).join(', ');
  return [
    `### Training step: \`${preset}\`, ${(parameters / 1e6).toFixed(2)} M weights, batch ${batch}`,
    '',
    `Images per second of processor time, medians; wall time and share of the best convolution (${peakText}) by the wall clock.`,
    '',
    ratesTable(comparison, peaks),
    ...ratioLines(comparison),
    '',
    'Parts of our steps, wall time:',
    '',
    partsTable(comparison),
  ].join('\n');
}

function ratesTable(comparison: StepComparison, peaks: Peaks): string {
  const { sizes, sides, batch, gflopPerImage } = comparison;
  const [byCpu, byWall] = [mixRates(comparison, 'cpu'), mixRates(comparison, 'wall')];
  const rows = sides.map(({ name, steps, dtype }, k) => {
    const rates = sizes.map(
      ({ multiplier }, i) => (batch * multiplier) / median(steps[i].map(({ cpu }) => cpu)),
    );
    const shares = sizes.map(({ multiplier }, i) => {
      const wall = median(steps[i].map((seconds) => seconds.wall));
      return (gflopPerImage[i] * batch * multiplier) / wall / (peaks.get(dtype) ?? Number.NaN);
    });
    return [
      ...[name, ...rates.map(digits), `**${digits(median(byCpu[k].rates))}**`],
      ...[digits(median(byWall[k].rates)), shares.map(percent).join(' / ')],
    ];
  });
  const head = ['', ...sizes.map(({ width, multiplier }) => `${width} px × ${batch * multiplier}`)];
  const sidesText = sizes.map(({ width }) => width).join(' / ');
  return table([...head, 'mix', 'mix by wall time', `share of peak at ${sidesText} px`], rows);
}

function ratioLines(comparison: StepComparison): string[] {
  const [cpu, wall] = (['cpu', 'wall'] as const).map((clock) => ratiosOf(mixRates(comparison, clock)));
  if (!cpu || !wall) return [];
  const ours = comparison.sides[0].name;
  const best = bestPeer(mixRates(comparison, 'cpu'))!.name;
  const names = {
    officialSettings: `${ours} over PyTorch as the official code runs (eager fp32 contiguous)`,
    bestPyTorch: `${ours} over PyTorch's best (${best.replace('PyTorch ', '')})`,
    fp32: 'ours fp32 over PyTorch as the official code runs',
  };
  const rows = (['officialSettings', 'bestPyTorch', 'fp32'] as const).map((key) => {
    const { median: middle, q1, q3 } = cpu[key];
    return [
      names[key],
      `**${times(middle)}**`,
      `${q1.toFixed(2)} … ${q3.toFixed(2)}`,
      times(wall[key].median),
    ];
  });
  return [
    '',
    table(['the mix, above 1: ours is quicker', 'processor time', 'middle half', 'wall time'], rows),
  ];
}

function partsTable({ sizes, sides }: StepComparison): string {
  const parts = ['batch', 'forward', 'backward', 'update', 'wall'] as const;
  const rows = sides.flatMap(({ name, steps }) =>
    sizes.flatMap(({ width }, i) => {
      const measured = steps[i].filter(hasParts);
      if (measured.length === 0) return [];
      return [
        [name, `${width} px`, ...parts.map((part) => duration(median(measured.map((step) => step[part]))))],
      ];
    }),
  );
  return table(['', 'patch', 'batch', 'forward', 'backward', 'update', 'step'], rows);
}

function hasParts(seconds: StepSeconds | StepTimes): seconds is StepTimes {
  return 'backward' in seconds;
}
