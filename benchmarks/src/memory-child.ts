/**
 * Our side of `npm run bench -- memory`, in a process of its own: some training steps at each patch size, then one JSON
 * line with the peak. The arguments are preset, batch, threads, precision and rounds.
 */
import { readFileSync } from 'node:fs';
import * as torch from '@patch-diffusion/torch';
import type { PresetName, TrainOptions } from 'patch-diffusion';
import { presetOptions } from './command-line.js';
import { TrainingStep } from './training-step.js';

const [preset, batch, threads, precision, rounds] = process.argv.slice(2);
torch.setNumThreads(Number(threads));
const step = new TrainingStep({
  ...{ train: presetOptions(preset as PresetName), batch: Number(batch), device: 'cpu' },
  precision: precision as TrainOptions['precision'],
});
for (let round = 0; round < Number(rounds); round++) {
  for (const patch of step.sizes) await step.run(patch);
}
process.stdout.write(`${JSON.stringify({ dtype: step.dtype, peakBytes: peakBytes() })}\n`);

/** Largest resident memory so far. Where there is no /proc, the larger of this and the parent's when it started this. */
function peakBytes(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024;
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}
