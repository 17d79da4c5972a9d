import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { FeatureAccumulator, frechetDistance } from '../../src/evaluation/frechet.js';
import { normalRows } from '../helpers/features.js';

describe('the Fréchet distance', () => {
  it('of known normal distributions is that of the formula', () => {
    // N(0, I) and N(m, diag s²): ‖m‖² + Σ (1 − s)².
    const mean = torch.tensor([1, -2, 0.5], { dtype: 'float64' });
    const std = torch.tensor([0.5, 1, 3], { dtype: 'float64' });
    const a = {
      mean: torch.zeros([3], { dtype: 'float64' }),
      covariance: torch.eye(3, { dtype: 'float64' }),
    };
    const b = { mean, covariance: torch.diag(std.square()) };
    expect(frechetDistance(a, b)).toBeCloseTo(5.25 + 0.25 + 4, 10);
    expect(frechetDistance(b, a)).toBeCloseTo(5.25 + 0.25 + 4, 10);
    expect(frechetDistance(b, b)).toBeCloseTo(0, 10);
  });

  it('of samples comes near it, and blocks that are taken away leave the statistics of the rest', () => {
    const [x, y] = [normalRows(20_000, 3, 1), normalRows(20_000, 3, 2).mul(2).add(1)];
    const of = (...parts: torch.Tensor[]) => {
      const sum = new FeatureAccumulator(3);
      for (const part of parts) sum.add(part);
      return sum;
    };
    const exact = 3 + 3;
    const [a, b] = [of(x), of(y)];
    expect(frechetDistance(a.statistics(), b.statistics())).toBeCloseTo(exact, 0);
    const [first, rest] = x.split([7, 19_993]);
    a.merge(of(first), -1);
    expect(a.count).toBe(19_993);
    const [left, expected] = [a.statistics(), of(rest).statistics()];
    expect(left.mean.sub(expected.mean).abs().max().item()).toBeLessThan(1e-12);
    expect(left.covariance.sub(expected.covariance).abs().max().item()).toBeLessThan(1e-12);
  });
});
