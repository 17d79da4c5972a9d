/** The benchmark, with the functions of `npm run bench`: the same network and weights in PyTorch, all sides in turn. */
import * as torch from '@patch-diffusion/torch';
import type { PresetName } from 'patch-diffusion';
import { type BenchOptions, resolveOptions } from '../../command-line.js';
import { compareSteps, mixRates } from '../../compare-steps.js';
import { digits, duration } from '../../markdown.js';
import { OFFICIAL_SETTINGS, type PeerSettings } from '../../peer.js';
import { pythonWithTorch } from '../../python.js';
import type { SideRates } from '../../ratios.js';
import { compareSamples } from '../../sample.js';
import { clockOf, median, type Spread, spread } from '../../timing.js';
import type { Emit } from '../results.js';
import { type StageContext, sizesFor } from './context.js';

const BEST_EAGER: PeerSettings = { channels_last: true, bf16: true, fused: true, compile: false };

/** Training steps beside PyTorch as the official code runs it, and with channels-last memory in bfloat16. */
export function steps(context: StageContext): Promise<void> {
  return compare(context, [OFFICIAL_SETTINGS, BEST_EAGER]);
}

/** Training steps beside the same in `torch.compile`. */
export function compiled(context: StageContext): Promise<void> {
  return compare(context, [{ ...BEST_EAGER, compile: true }]);
}

async function compare({ device, emit }: StageContext, peers: readonly PeerSettings[]): Promise<void> {
  const { preset, batch } = sizesFor(device);
  const options = benchOptions('step', device, preset, batch);
  const comparison = await compareSteps(preset, options, pythonWithTorch(), peers);
  const { sides, sizes } = comparison;
  const clock = clockOf(device);
  const mixes = mixRates(comparison, clock);
  for (const [k, { name, steps: seconds }] of sides.entries()) {
    const perSize = sizes.map(({ width, multiplier }, i) => {
      const rate = (batch * multiplier) / median(seconds[i].map((one) => one[clock]));
      return `${digits(rate)} at ${width} px × ${batch * multiplier}`;
    });
    const imagesPerSec = median(mixes[k].rates);
    emit({
      name: `training, ${preset}, batch ${batch}: ${name}`,
      status: 'ok',
      detail: `${digits(imagesPerSec)} images/s over the mix (${perSize.join(', ')})`,
      figures: { imagesPerSec },
    });
  }
  const isPeer = ({ role }: SideRates): boolean => role === 'official' || role === 'candidate';
  for (const ours of mixes.filter((side) => !isPeer(side))) {
    for (const peer of mixes.filter(isPeer)) {
      const ratios = spread(ours.rates.map((rate, i) => rate / peer.rates[i]));
      emitRatio(emit, `training step: ${ours.name} over ${peer.name}`, ratios);
    }
  }
}

/** One evaluation of the network while sampling, beside eager PyTorch in its settings. */
export async function sampling({ device, emit }: StageContext): Promise<void> {
  const { preset, sampleBatch: batch } = sizesFor(device);
  const { sides, clock } = await compareSamples(
    preset,
    benchOptions('sample', device, preset, batch),
    pythonWithTorch(),
  );
  for (const { name, seconds } of sides) {
    const secondsEach = median(seconds.map((one) => one[clock]));
    const detail = `${duration(secondsEach)} an evaluation`;
    emit({ name: `sampling, ${batch} images: ${name}`, status: 'ok', detail, figures: { secondsEach } });
  }
  for (const ours of sides.filter(({ name }) => name.startsWith('ours'))) {
    for (const peer of sides.filter(({ name }) => name.startsWith('PyTorch'))) {
      const ratios = spread(peer.seconds.map((seconds, i) => seconds[clock] / ours.seconds[i][clock]));
      emitRatio(emit, `sampling: ${ours.name} over ${peer.name}`, ratios);
    }
  }
}

function benchOptions(
  command: 'step' | 'sample',
  device: string,
  preset: PresetName,
  batch: number,
): BenchOptions {
  const { repeats } = sizesFor(device);
  return resolveOptions(command, [
    ...['--preset', preset, '--batch', String(batch), '--device', device, '--repeats', String(repeats)],
    ...['--threads', String(torch.getNumThreads())],
  ]);
}

function emitRatio(emit: Emit, name: string, { median: ratio, q1, q3 }: Spread): void {
  const detail = `(middle half ${q1.toFixed(2)} … ${q3.toFixed(2)})`;
  emit({ name, status: 'ok', detail, figures: { ratio, q1, q3 } });
}
