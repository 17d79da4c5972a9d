import { describe, expect, it } from 'vitest';
import {
  allReduceSeconds,
  meanUpdateSeconds,
  type Policy,
  type Setting,
  type StepCosts,
} from '../src/scaling/simulate.js';

const size = (side: number, probability: number, multiplier: number) => ({
  ...{ width: side, height: side, probability, multiplier },
});
/** A patch costs what its pixels do: 1 s for a whole image, 1/16 s and 1/4 s for the others. */
const costs: StepCosts = {
  sizes: [size(16, 0.2, 4), size(32, 0.3, 2), size(64, 0.5, 1)],
  costs: [1 / 16, 1 / 4, 1].map((perPatch) => ({ base: 0, perPatch })),
  update: 0,
  gradientBytes: 0,
};
const instant = { bytesPerSec: Number.POSITIVE_INFINITY, latency: 0 };

const mean = (
  policy: Policy,
  ranks: number,
  more: Partial<Setting> = {},
  of = costs,
  updates = 20_000,
): number => {
  let state = 1;
  const uniform = () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
  return meanUpdateSeconds(
    of,
    { policy, ranks, imagesPerRank: 10, network: instant, ...more },
    uniform,
    updates,
  );
};

describe('the simulation of ranks', () => {
  it('has the expected costs of a mix of sizes: 0.2 · 1/4 + 0.3 · 1/2 + 0.5 · 1 of a whole image', () => {
    expect(mean('stratified', 8)).toBeCloseTo(7, 6);
    expect(mean('shared', 8)).toBeCloseTo(7, 0);
    expect(mean('shared', 1)).toBeCloseTo(mean('independent', 1), 6);
  });

  it('waits for the slowest where each rank draws for itself', () => {
    // P(no whole image among N) = 1/2^N, and so on.
    const expected = (ranks: number) =>
      10 * (1 - 0.5 ** ranks + 0.5 * (0.5 ** ranks - 0.2 ** ranks) + 0.25 * 0.2 ** ranks);
    for (const ranks of [2, 8])
      expect(Math.abs(mean('independent', ranks) - expected(ranks))).toBeLessThan(0.1);
  });

  it('counts the turns of ranks that share a core, and the optimiser of each', () => {
    const withUpdate = { ...costs, update: 0.5 };
    expect(mean('stratified', 4, { ranksPerCore: 2 }, withUpdate)).toBeCloseTo(2 * 7 + 2 * 0.5, 6);
    expect(mean('stratified', 4, {}, withUpdate)).toBeCloseTo(7 + 0.5, 6);
  });

  it('adds what backward does not hide of the reduction', () => {
    const network = { bytesPerSec: 1e6, latency: 0.001 };
    expect(allReduceSeconds(4e6, 1, network)).toBe(0);
    expect(allReduceSeconds(4e6, 4, network)).toBeCloseTo(6 * (0.001 + 1), 9);
    const small = { ...costs, gradientBytes: 1e6 };
    // One bucket cannot begin before backward ends.
    expect(mean('stratified', 2, { network }, small)).toBeCloseTo(7 + 2 * (0.001 + 0.5), 6);
    const large = { ...costs, gradientBytes: 80 << 20 };
    const all = 10 * allReduceSeconds(8 << 20, 2, network);
    // The last micro-batch is that of whole images: 5 s, of which backward takes two thirds.
    expect(mean('stratified', 2, { network }, large)).toBeCloseTo(7 + all - (5 * 2) / 3, 6);
  });
});
