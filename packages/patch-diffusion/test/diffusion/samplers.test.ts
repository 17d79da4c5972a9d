import { describe, expect, it } from 'vitest';
import { planSampler, SAMPLERS, type SamplerOptions } from '../../src/diffusion/samplers/index.js';
import { anyNoise, DATA_STD, exactFlow, gaussianDraws, sampleGaussian } from '../helpers/gaussian.js';

/** Error at the lowest noise level, before the last step goes to 0. */
function flowError(options: SamplerOptions): number {
  const sampler = planSampler(options, anyNoise);
  const last = sampler.sigmas.length - 1;
  const [x] = sampleGaussian(sampler, Float64Array.of(1.3), () => null, last);
  return Math.abs(x - exactFlow(1.3, sampler.sigmas[0], sampler.sigmas[last]));
}

/** log2 of the ratio of the errors when the steps are halved. */
function order(options: SamplerOptions, numSteps = 128): number {
  return Math.log2(
    flowError({ ...options, numSteps: numSteps + 1 }) / flowError({ ...options, numSteps: 2 * numSteps + 1 }),
  );
}

describe('samplers on a Gaussian', () => {
  it.each<[string, SamplerOptions, number]>([
    ['edm', { sampler: 'edm' }, 2],
    ['dpmpp-2m', { sampler: 'dpmpp-2m' }, 2],
    ['generalised, heun', { sampler: 'generalised' }, 2],
    ['generalised, midpoint', { sampler: 'generalised', alpha: 0.5 }, 2],
    ['generalised, euler', { sampler: 'generalised', solver: 'euler' }, 1],
    ['generalised, vp', { sampler: 'generalised', discretization: 'vp', schedule: 'vp', scaling: 'vp' }, 2],
  ])('%s converges with its order, or better', (_, options, expected) => {
    expect(order(options)).toBeGreaterThan(expected - 0.2);
  });

  it('Euler is of the first order only', () =>
    expect(order({ sampler: 'generalised', solver: 'euler' })).toBeLessThan(1.2));

  it('all samplers of the trajectory agree in the limit', () => {
    const exact = exactFlow(1.3, 80, 0.002);
    for (const sampler of SAMPLERS.filter((name) => name !== 'dpmpp-2m-sde' && name !== 'ect')) {
      const [x] = sampleGaussian(planSampler({ sampler, numSteps: 1000 }, anyNoise), Float64Array.of(1.3));
      expect(Math.abs(x - exact)).toBeLessThan(2e-5);
    }
  });

  it.each<[string, SamplerOptions]>([
    ['dpmpp-2m-sde', { sampler: 'dpmpp-2m-sde' }],
    ['edm with churn', { sampler: 'edm', sChurn: 30 }],
  ])('%s draws from the distribution', (_, options) => {
    const count = 20_000;
    const normal = gaussianDraws(7);
    const sampler = planSampler({ ...options, numSteps: 120 }, anyNoise);
    expect(sampler.needsNoise).toBe(true);
    const x = sampleGaussian(sampler, normal(count), () => normal(count));
    const mean = x.reduce((sum, value) => sum + value, 0) / count;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count;
    expect(Math.abs(mean)).toBeLessThan((4 * DATA_STD) / Math.sqrt(count));
    expect(Math.abs(variance / DATA_STD ** 2 - 1)).toBeLessThan(0.05);
  });

  it('the noise of the SDE matters: another draw is another sample', () => {
    const sampler = planSampler({ sampler: 'dpmpp-2m-sde' }, anyNoise);
    const run = (seed: number) => {
      const normal = gaussianDraws(seed);
      return sampleGaussian(sampler, Float64Array.of(1), () => normal(1))[0];
    };
    expect(run(1)).toBe(run(1));
    expect(run(1)).not.toBeCloseTo(run(2), 3);
  });

  it('works with a single step', () => {
    for (const sampler of SAMPLERS) {
      const plan = planSampler({ sampler, numSteps: 1 }, anyNoise);
      expect([...plan.times]).toEqual([80, 0]);
      const noise = plan.needsNoise ? Float64Array.of(0.1) : null;
      expect(sampleGaussian(plan, Float64Array.of(1), () => noise)[0]).toBeCloseTo(
        (80 * 0.25) / (0.25 + 6400),
        10,
      );
    }
  });

  it('keeps to the noise levels of the denoiser', () => {
    const rounded = {
      sigmaMin: 0.1,
      sigmaMax: 10,
      roundSigma: (sigma: number) => Math.round(sigma * 10) / 10,
    };
    for (const sampler of SAMPLERS) {
      const plan = planSampler({ sampler, numSteps: 40 }, rounded);
      expect(plan.times[0]).toBeCloseTo(10);
      expect(plan.times[39]).toBeCloseTo(sampler === 'ect' ? 0.8 : 0.1);
      // Rounding makes some levels equal; a step of length 0 must not divide by 0.
      const noise = plan.needsNoise ? Float64Array.of(0.1) : null;
      expect(Number.isFinite(sampleGaussian(plan, Float64Array.of(1), () => noise)[0])).toBe(true);
    }
  });

  it('says when iDDPM has no level in the range', () => {
    const options = {
      sampler: 'generalised',
      discretization: 'iddpm',
      sigmaMin: 5000,
      sigmaMax: 5001,
    } as const;
    expect(() => planSampler(options, anyNoise)).toThrow(
      /no noise level between 5000 and 5001; widen --sigma-min/,
    );
  });
});
