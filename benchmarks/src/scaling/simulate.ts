/**
 * How long an update takes on N ranks. Each rank computes its micro-batches; the sums of gradients go over the network while
 * the last backward still runs; the update ends when the slowest rank has them. Reduction is a ring: each of the
 * buckets passes 2 (N − 1) times, 1/N of it at a time.
 *
 * Left out: reading of images, files, and ranks whose machines differ.
 */
import { type PatchSize, planUpdate } from 'patch-diffusion/method';

/** Who trains on which patch sizes at the same time. */
export const POLICIES = ['shared', 'stratified', 'independent'] as const;
export type Policy = (typeof POLICIES)[number];

/** Time of one rank for forward and backward of patches of a size: `base + perPatch · patches`, in seconds. */
export interface SizeCost {
  readonly base: number;
  readonly perPatch: number;
}

/** What was measured of a network on one rank. */
export interface StepCosts {
  readonly sizes: readonly PatchSize[];
  /** One for each size. */
  readonly costs: readonly SizeCost[];
  /** Seconds of optimiser and average, once per update. */
  readonly update: number;
  readonly gradientBytes: number;
}

export interface Network {
  readonly bytesPerSec: number;
  /** Seconds until a message arrives. */
  readonly latency: number;
}

export interface Setting {
  readonly policy: Policy;
  readonly ranks: number;
  /** Whole images per rank and update; patches of other sizes as many as their multiplier says. */
  readonly imagesPerRank: number;
  readonly network: Network;
  /** Ranks that take turns on one core: 1 where each has its own. */
  readonly ranksPerCore?: number;
}

/** Gradients are summed in parts of this size while backward goes on, as the trainer does. */
const BUCKET_BYTES = 8 << 20;
/** Share of forward and backward that backward takes. */
const BACKWARD_SHARE = 2 / 3;

/** Seconds of one sum over all ranks. */
export function allReduceSeconds(bytes: number, ranks: number, { bytesPerSec, latency }: Network): number {
  const messages = 2 * (ranks - 1);
  return messages * (latency + bytes / ranks / bytesPerSec);
}

/**
 * Mean seconds of an update.
 * @param uniform draws from [0, 1)
 * @param updates updates to average over; `stratified` needs one
 */
export function meanUpdateSeconds(
  costs: StepCosts,
  setting: Setting,
  uniform: () => number,
  updates = 2000,
): number {
  const count = setting.policy === 'stratified' ? 1 : updates;
  let total = 0;
  for (let i = 0; i < count; i++) total += updateSeconds(costs, setting, uniform);
  return total / count;
}

function updateSeconds(costs: StepCosts, setting: Setting, uniform: () => number): number {
  const { policy, ranks, imagesPerRank, network, ranksPerCore = 1 } = setting;
  const name = policy === 'stratified' ? 'stratified' : 'stochastic';
  const schedule = { name, sizes: costs.sizes } as const;
  const batch = imagesPerRank * ranks;
  // A rank that draws for itself has a micro-batch of its own in each update.
  const batchGpu = policy === 'independent' ? imagesPerRank : batch;
  const { microBatches } = planUpdate(schedule, { batch, batchGpu }, 0, uniform);
  const seconds = microBatches.map(({ patch, count }) => {
    const { base, perPatch } = costs.costs[costs.sizes.findIndex(({ width }) => width === patch.width)];
    return base + perPatch * (policy === 'independent' ? count : count / ranks);
  });
  // Of ranks that share a core, each waits for the others' turns.
  const onCores = (perRank: readonly number[]) => {
    const perCore = Array.from({ length: Math.ceil(ranks / ranksPerCore) }, (_, core) =>
      perRank.slice(core * ranksPerCore, (core + 1) * ranksPerCore).reduce((sum, value) => sum + value, 0),
    );
    return Math.max(...perCore);
  };
  const perRank =
    policy === 'independent' ? seconds : Array<number>(ranks).fill(seconds.reduce((a, b) => a + b, 0));
  const compute = onCores(perRank);
  const last = policy === 'independent' ? Math.min(...perRank) : seconds[seconds.length - 1];
  return (
    compute +
    exposedSeconds(costs.gradientBytes, ranks, network, last * BACKWARD_SHARE) +
    costs.update * ranksPerCore
  );
}

/** What is left of the reduction when backward ends: at least its last bucket. */
function exposedSeconds(bytes: number, ranks: number, network: Network, backward: number): number {
  if (ranks === 1) return 0;
  const buckets = Math.ceil(bytes / BUCKET_BYTES);
  const lastBytes = bytes - (buckets - 1) * BUCKET_BYTES;
  const all =
    (buckets - 1) * allReduceSeconds(BUCKET_BYTES, ranks, network) +
    allReduceSeconds(lastBytes, ranks, network);
  return Math.max(all - backward, allReduceSeconds(lastBytes, ranks, network));
}
