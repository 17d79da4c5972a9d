/** Report of `step`: Markdown tables for docs/performance.md. */
import { mixRates, type StepComparison } from './compare-steps.js';
import type { ConvolutionRate } from './convolutions.js';
import { digits, duration, percent, table, times } from './markdown.js';
import { bestPeer, ratiosOf } from './ratios.js';
import { median, type StepSeconds } from './timing.js';
import type { StepTimes } from './training-step.js';

const CLOCKS = { cpu: 'processor time', wall: 'wall time' } as const;

/** GFLOP/s of the best convolution, by precision. */
export type Peaks = Map<ConvolutionRate['dtype'], number>;

export function stepReport(comparison: StepComparison, peaks: Peaks): string {
  const { preset, parameters, batch, clock } = comparison;
  const peakText = [...peaks].map(([dtype, rate]) => `${digits(rate)} GFLOP/s in ${dtype}`).join(', ');
  return [
    `### Training step: \`${preset}\`, ${(parameters / 1e6).toFixed(2)} M weights, batch ${batch}`,
    '',
    `Images per second of ${CLOCKS[clock]}, medians; wall time and share of the best convolution (${peakText}) by the wall clock.`,
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
  const { sizes, sides, batch, gflopPerImage, clock } = comparison;
  const [byClock, byWall] = [mixRates(comparison, clock), mixRates(comparison, 'wall')];
  const rows = sides.map(({ name, steps, dtype }, k) => {
    const rates = sizes.map(
      ({ multiplier }, i) => (batch * multiplier) / median(steps[i].map((seconds) => seconds[clock])),
    );
    const shares = sizes.map(({ multiplier }, i) => {
      const wall = median(steps[i].map((seconds) => seconds.wall));
      return (gflopPerImage[i] * batch * multiplier) / wall / (peaks.get(dtype) ?? Number.NaN);
    });
    return [
      ...[name, ...rates.map(digits), `**${digits(median(byClock[k].rates))}**`],
      ...[digits(median(byWall[k].rates)), shares.map(percent).join(' / ')],
    ];
  });
  const head = ['', ...sizes.map(({ width, multiplier }) => `${width} px × ${batch * multiplier}`)];
  const sidesText = sizes.map(({ width }) => width).join(' / ');
  return table([...head, 'mix', 'mix by wall time', `share of peak at ${sidesText} px`], rows);
}

function ratioLines(comparison: StepComparison): string[] {
  const { clock } = comparison;
  const [main, wall] = [clock, 'wall' as const].map((by) => ratiosOf(mixRates(comparison, by)));
  if (!main || !wall) return [];
  const ours = comparison.sides[0].name;
  const best = bestPeer(mixRates(comparison, clock))!.name;
  const names = {
    officialSettings: `${ours} over PyTorch as the official code runs (eager fp32 contiguous)`,
    bestPyTorch: `${ours} over PyTorch's best (${best.replace('PyTorch ', '')})`,
    fp32: 'ours fp32 over PyTorch as the official code runs',
  };
  const rows = (['officialSettings', 'bestPyTorch', 'fp32'] as const).map((key) => {
    const { median: middle, q1, q3 } = main[key];
    return [
      names[key],
      `**${times(middle)}**`,
      `${q1.toFixed(2)} … ${q3.toFixed(2)}`,
      times(wall[key].median),
    ];
  });
  return [
    '',
    table(
      ['the mix, above 1: ours is quicker', CLOCKS[clock], 'middle half', 'by the clock on the wall'],
      rows,
    ),
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
