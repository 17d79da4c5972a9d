/** What forward and backward of patches cost on one rank with one thread, by processor time. */
import type { BenchOptions, presetOptions } from '../command-line.js';
import { log } from '../progress.js';
import { median } from '../timing.js';
import { TrainingStep } from '../training-step.js';
import type { SizeCost, StepCosts } from './simulate.js';

const FLOAT32_BYTES = 4;

/**
 * Measures two batch sizes of each patch size; a line through them gives the cost of others.
 * @param batches whole images per step, the smaller first
 */
export async function measureStepCosts(
  train: ReturnType<typeof presetOptions>,
  batches: readonly [number, number],
  { device, precision, repeats }: Pick<BenchOptions, 'device' | 'precision' | 'repeats'>,
): Promise<StepCosts> {
  const steps = batches.map((batch) => new TrainingStep({ train, batch, device, precision }));
  const [{ sizes, denoiser }] = steps;
  const updates: number[] = [];
  const costs: SizeCost[] = [];
  for (const patch of sizes) {
    const seconds = batches.map((): number[] => []);
    for (let round = 0; round <= repeats; round++) {
      for (const [k, step] of steps.entries()) {
        const { wall, cpu, update } = await step.run(patch);
        // The first round warms up.
        if (round === 0) continue;
        const updateSec = (update / wall) * cpu;
        updates.push(updateSec);
        seconds[k].push(cpu - updateSec);
      }
    }
    const [small, large] = seconds.map(median);
    const perPatch = Math.max(0, (large - small) / ((batches[1] - batches[0]) * patch.multiplier));
    costs.push({ base: Math.max(0, small - perPatch * batches[0] * patch.multiplier), perPatch });
    log(`  ${patch.width} px: ${(perPatch * 1000).toFixed(1)} ms per patch`);
  }
  return { sizes, costs, update: median(updates), gradientBytes: denoiser.numParams() * FLOAT32_BYTES };
}
