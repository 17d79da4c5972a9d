import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { NEIGHBOURS, neighbourhoods, squaredDistances } from '../../src/evaluation/neighbours.js';
import { normalRows } from '../helpers/features.js';

const mean = (values: Float64Array) => values.reduce((sum, v) => sum + v, 0) / values.length;
const figures = async (real: Tensor, samples: Tensor) => {
  const { precision, recall, density, coverage } = await neighbourhoods(real, samples);
  return [precision, recall, density, coverage].map(mean);
};
/** Points on a line. */
const line = (...values: number[]) => torch.tensor(values, { shape: [values.length, 1], dtype: 'float64' });

describe('precision, recall, density and coverage', () => {
  it('are 1 for copies: each lies in the balls of its original and neighbours', async () => {
    const x = normalRows(40, 6, 1).add(100);
    const [precision, recall, density, coverage] = await figures(x, x.clone());
    expect([precision, recall, coverage]).toEqual([1, 1, 1]);
    // Its own ball, and on average those of the k images whose k-th neighbour is no nearer.
    expect(density).toBeCloseTo((NEIGHBOURS + 1) / NEIGHBOURS, 10);
  });

  it('are 0 for sets that are far apart', async () => {
    expect(await figures(normalRows(20, 3, 1), normalRows(20, 3, 2).add(100))).toEqual([0, 0, 0, 0]);
  });

  it('count on a line as by hand', async () => {
    // Balls of 0 … 5: radius 5, 4, 3, 3, 4, 5.
    const real = line(0, 1, 2, 3, 4, 5);
    // 6 lies in the balls of 2 (no: 4 > 3), 3 (3), 4 (2), 5 (1) and 1 (no: 5 > 4), 0 (no); 40 to 44 in none.
    const samples = line(6, 40, 41, 42, 43, 44);
    const { precision, density, coverage, recall } = await neighbourhoods(real, samples);
    expect([...precision]).toEqual([1, 0, 0, 0, 0, 0]);
    expect([...density]).toEqual([3 / 5, 0, 0, 0, 0, 0]);
    expect([...coverage]).toEqual([0, 0, 0, 1, 1, 1]);
    // The ball of 6 reaches 38 far: its 5 neighbours are 34 … 38 away. All real ones are in it.
    expect([...recall]).toEqual([1, 1, 1, 1, 1, 1]);
  });

  it('tell a lost mode from noise', async () => {
    const modes = torch.cat([normalRows(60, 2, 1), normalRows(60, 2, 2).add(50)], 0);
    const dropped = await figures(modes, normalRows(120, 2, 3));
    expect(dropped[0]).toBeGreaterThan(0.9);
    expect(dropped[1]).toBeLessThan(0.6);
    expect(dropped[3]).toBeLessThan(0.6);
    const noisy = await figures(modes, torch.cat([modes, normalRows(120, 2, 4).mul(20).add(25)], 0));
    expect(noisy[0]).toBeLessThan(0.75);
    expect(noisy[1]).toBe(1);
  });
});

it('squared distances of copies are exactly 0', () => {
  const x = normalRows(30, 7, 5).add(1000);
  expect(squaredDistances(x, x.clone()).diagonal().abs().max().item()).toBe(0);
});
