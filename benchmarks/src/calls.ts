/** `npm run bench -- calls`: what a call from JavaScript to libtorch costs. */
import type { BenchOptions } from './command-line.js';
import { table } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { measureNewTensorUs, measureOperatorCalls } from './operator-calls.js';

/** Rounds of 1000 calls; the best one counts. */
const ROUNDS = 50;

export async function measureCalls({ quick }: BenchOptions): Promise<Measurement> {
  const rounds = quick ? 5 : ROUNDS;
  const calls = measureOperatorCalls(rounds);
  const newTensorUs = measureNewTensorUs(rounds);
  const micros = (value: number): string => `${value.toFixed(2)} µs`;
  const rows = calls.map(({ operator, callUs, libtorchUs, beyondUs }) => [
    ...[`\`${operator}\``, micros(callUs), micros(libtorchUs), micros(beyondUs)],
  ]);
  const figure = (name: string, us: number): Figure => ({ name, unit: 'µs', better: 'lower', values: [us] });
  return {
    figures: [
      ...calls.map(({ operator, callUs }) => figure(operator, callUs)),
      figure('add(tensor)', newTensorUs),
    ],
    markdown: table(
      ['operator call, one element', 'from JavaScript', "libtorch's own", 'beyond'],
      [...rows, ['`add(tensor)`, a new tensor made and freed', micros(newTensorUs), '', '']],
    ),
    details: { calls, newTensorUs },
  };
}
