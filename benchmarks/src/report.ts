/** The benchmark's results as text. */
import type { Comparison, SizeResult } from './comparison.js';
import type { ConvolutionRate } from './convolutions.js';
import type { Machine } from './machine.js';
import type { CallCost } from './operator-calls.js';
import type { BenchOptions } from './options.js';

export interface Results {
  readonly machine: Machine;
  readonly options: Pick<BenchOptions, 'preset' | 'batch' | 'repeats' | 'device' | 'channelsLast' | 'quick'>;
  readonly convolutions: ConvolutionRate[];
  readonly peakGflopPerSec: number;
  readonly calls: CallCost[];
  /** Microseconds of `add`, whose result is a new tensor. */
  readonly newTensorUs: number;
  readonly steps: Comparison;
}

export function report({
  machine,
  options,
  convolutions,
  peakGflopPerSec,
  calls,
  newTensorUs,
  steps,
}: Results): string {
  const ourLayout = options.channelsLast ? 'channels-last' : 'contiguous';
  const best = convolutions.find((rate) => rate.gflopPerSec === peakGflopPerSec)!;
  return [
    `${machine.cpu}, ${machine.threads} threads${machine.gpu ? `, ${machine.gpu}` : ''}; libtorch ${machine.libtorch}; Node ${machine.node}`,
    `load average before: ${machine.loadBefore.toFixed(2)}${machine.loadBefore > 0.5 ? ' (the machine was not idle: times are inflated)' : ''}`,
    '',
    `Convolutions (3×3, forward and backward): best ${fixed(peakGflopPerSec)} GFLOP/s, at ${shape(best)}`,
    ...convolutions.map(
      (rate) => `  ${shape(rate).padEnd(42)} ${fixed(rate.gflopPerSec).padStart(6)} GFLOP/s`,
    ),
    '',
    'Operator calls on one element, microseconds',
    ...calls.map(
      ({ operator, callUs, libtorchUs, beyondUs }) =>
        `  ${operator.padEnd(25)} ${callUs.toFixed(2)} in all, ${libtorchUs.toFixed(2)} libtorch's own, ${beyondUs.toFixed(2)} beyond`,
    ),
    `  ${'add(tensor), a new tensor'.padEnd(25)} ${newTensorUs.toFixed(2)} in all`,
    ...(steps.peerCallUs === null
      ? []
      : [`  ${"PyTorch's add_, Python".padEnd(25)} ${steps.peerCallUs.toFixed(2)} in all`]),
    '',
    `Training step: preset ${options.preset}, ${(steps.parameters / 1e6).toFixed(2)} M weights, batch ${options.batch}, ` +
      `${ourLayout}, medians of ${options.repeats}`,
    table(
      ['patch', 'images', 'images/s', 'step', 'batch', 'forward', 'backward', 'update', 'GFLOP/s', 'of peak'],
      steps.sizes.map(({ patch, images, imagesPerSec, seconds: s, gflopPerSec }) => [
        ...[String(patch), String(images), imagesPerSec.toFixed(2)],
        ...[s.total, s.batch, s.forward, s.backward, s.update].map(milliseconds),
        ...[fixed(gflopPerSec), `${((gflopPerSec / peakGflopPerSec) * 100).toFixed(0)} %`],
      ]),
    ),
    '',
    ...(steps.notice !== null
      ? [`PyTorch peer: skipped: ${steps.notice}`]
      : [
          'Eager PyTorch in both memory orders, same weights and loss (checked), steps in turn with ours;',
          `ours (${ourLayout}) is compared with the quicker one`,
          peerTable(steps.sizes),
        ]),
    '',
  ].join('\n');
}

function peerTable(sizes: readonly SizeResult[]): string {
  const head = ['patch', 'PyTorch', 'images/s', 'step', 'forward', 'backward', 'update'];
  const compared = ['ours / PyTorch', 'middle half', 'by CPU time'];
  const rows = sizes.flatMap(({ patch, peers }) =>
    peers.map(({ layout, imagesPerSec, seconds: s, ratio, cpuRatio, lossDifference }, place) => [
      ...[String(patch), layout, imagesPerSec.toFixed(2)],
      ...[s.total, s.forward, s.backward, s.update].map(milliseconds),
      ...(place === 0
        ? [times(ratio.median), `${ratio.q1.toFixed(3)} … ${ratio.q3.toFixed(3)}`, times(cpuRatio.median)]
        : compared.map(() => '')),
      lossDifference.toExponential(1),
    ]),
  );
  return table([...head, ...compared, 'loss differs by'], rows);
}

const times = (ratio: number): string => `${ratio.toFixed(3)} ×`;

function shape({ batch, channels, side, format }: ConvolutionRate): string {
  const order = format === 'channelsLast' ? 'channels-last' : format;
  return `[${batch}, ${channels}, ${side}, ${side}] ${order}`;
}

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
}

function fixed(value: number): string {
  return value.toFixed(value < 10 ? 1 : 0);
}

function table(head: string[], rows: string[][]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  return all
    .map((row) => `  ${row.map((cell, column) => cell.padStart(widths[column])).join('  ')}`)
    .join('\n');
}
