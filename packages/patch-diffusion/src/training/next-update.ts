/**
 * The data side of an update: which patch sizes, which images. All choices come from two seeded generators whose states
 * a checkpoint saves: the data order's, and NumPy's for patch sizes.
 */
import type { Device } from '@patch-diffusion/torch';
import type { Mt19937 } from '../common/mt19937.js';
import { TorchRandom } from '../common/random-source.js';
import type { InfiniteSampler } from '../data/sampler.js';
import type { DataSet } from '../data/types.js';
import { type PatchSchedule, planUpdate } from '../patches/schedule.js';
import type { MicroBatch, Update } from './step.js';

export interface UpdateSource {
  readonly dataset: DataSet;
  readonly order: InfiniteSampler;
  /** Chooses the patch sizes. */
  readonly patchRandom: Mt19937;
  readonly schedule: PatchSchedule;
  /** Images per update, at full size. */
  readonly batch: number;
  /** Images per micro-batch, at full size. */
  readonly batchGpu: number;
  readonly device: Device;
}

/**
 * Plans the next update and waits until its images are decoded.
 * @param progress share of the run that is done, 0 … 1
 */
export async function nextUpdate(source: UpdateSource, progress: number): Promise<Update> {
  const { dataset, order, patchRandom, schedule, device } = source;
  const plan = planUpdate(schedule, source, progress, () => patchRandom.randomDouble());
  // Positions are drawn on the CPU, where patches are cut, so that no update waits for a GPU.
  const positionRandom = new TorchRandom('cpu');
  const random = new TorchRandom(device);
  const microBatches: MicroBatch[] = [];
  for (const { patch, count, weight } of plan.microBatches) {
    const indices = order.next(count);
    await dataset.ready(indices);
    microBatches.push({ patch, indices, weight, random, positionRandom });
  }
  return { microBatches, nimg: plan.nimg };
}
