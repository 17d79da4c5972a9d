/**
 * The data side of an update: which patch sizes, which images. All choices come from two seeded generators whose states
 * a checkpoint saves: the data order's, and NumPy's for patch sizes.
 */
import type { Device } from '@patch-diffusion/torch';
import type { Mt19937 } from '../common/mt19937.js';
import type { Part } from '../common/random-part.js';
import { TorchRandom } from '../common/random-source.js';
import type { InfiniteSampler } from '../data/sampler.js';
import type { DataSet } from '../data/types.js';
import { type PatchSchedule, planUpdate, sizesAt } from '../patches/schedule.js';
import type { EvenWeights } from './even-weights.js';
import type { TrainEventListener } from './events.js';
import type { MicroBatch } from './gradient.js';
import type { NoiseLevels } from './noise-levels-by-loss.js';
import type { CandidateStream, Generators } from './random-streams.js';
import type { Update } from './step.js';
import { evenUniform, stratified } from './stratified-random.js';
import { imageNames, type Patience, waitForData } from './watchdog.js';

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
  /** How long images may take. */
  readonly patience?: Patience;
  /** They draw for the whole batch. */
  readonly generators: Generators;
  /** This rank among those that share the work. */
  readonly ranks?: { readonly rank: number; readonly worldSize: number } | null;
  /** Whether the ranks share each micro-batch, or each has micro-batches with patch sizes of its own. */
  readonly rankSizes?: 'shared' | 'independent';
  /** Spreads noise levels, positions and sizes evenly; a number of the run's own, 0 … 1, or null for independent draws. */
  readonly stratifyShift?: number | null;
  /** Draws noise levels by the losses so far; without it they are drawn as the loss says. */
  readonly noiseLevels?: NoiseLevels | null;
  /** Weighs noise levels by the losses so far; without it they count as the loss says. */
  readonly evenWeights?: EvenWeights | null;
  /** Draws candidates for the noise; without it noise and images are independent. */
  readonly candidates?: CandidateStream | null;
}

/**
 * Plans the next update and waits until its images are decoded. With several ranks, all make the same plan and draw the
 * same order; each gets its part.
 * @param progress share of the run that is done, 0 … 1
 * @param step updates before this one
 * @throws UserError when images do not come
 */
export async function nextUpdate(
  source: UpdateSource,
  { progress, step }: { readonly progress: number; readonly step: number },
  emit: TrainEventListener = () => {},
): Promise<Update> {
  const { dataset, order, patchRandom, schedule, device, generators, ranks, rankSizes } = source;
  const { stratifyShift = null, noiseLevels, evenWeights } = source;
  const isIndependent = Boolean(ranks) && rankSizes === 'independent' && schedule.name !== 'stratified';
  const batchGpu = isIndependent ? source.batchGpu / ranks!.worldSize : source.batchGpu;
  let nextIndex = step * (source.batch / batchGpu);
  const plan = planUpdate(schedule, { batch: source.batch, batchGpu }, progress, () =>
    stratifyShift === null ? patchRandom.randomDouble() : evenUniform(stratifyShift, nextIndex++),
  );
  // Positions are drawn on the CPU, where patches are cut, so that no update waits for a GPU.
  const spread = (draws: TorchRandom) => (stratifyShift === null ? draws : stratified(draws));
  const positionRandom = spread(new TorchRandom('cpu', generators.cpu));
  const random = spread(new TorchRandom(device, generators.device));
  const sizes = sizesAt(schedule, progress);
  const quantiles = noiseLevels?.at(sizes, progress);
  const factors = evenWeights?.at(sizes);
  const candidates = source.candidates?.at(progress, step);
  const microBatches: MicroBatch[] = [];
  for (const [i, { patch, count, weight }] of plan.microBatches.entries()) {
    const indices = order.next(count);
    const part = ranks ? partFor(ranks, count, isIndependent ? i : null) : undefined;
    // A rank without a part still makes the draws, for one image.
    const own = part ? indices.subarray(part.begin, Math.max(part.end, part.begin + 1)) : indices;
    await waitForData(dataset.ready(own), () => imageNames(dataset, Array.from(own)), emit, source.patience);
    microBatches.push({
      patch,
      indices,
      weight,
      random,
      positionRandom,
      progress,
      quantiles: quantiles?.(patch),
      factors: factors?.(patch),
      candidates,
      ...(part ? { part } : {}),
    });
  }
  return { microBatches, nimg: plan.nimg, progress };
}

/** What a rank does of a micro-batch: an equal part, or, in turns, all of it or nothing. */
function partFor(
  { rank, worldSize }: NonNullable<UpdateSource['ranks']>,
  count: number,
  turn: number | null,
): Part {
  if (turn !== null) return { begin: 0, end: turn % worldSize === rank ? count : 0 };
  return { begin: Math.floor((count * rank) / worldSize), end: Math.floor((count * (rank + 1)) / worldSize) };
}
