import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { mixtureLikelihoods, scaled, scalingOf } from '../../src/evaluation/likelihood.js';
import { normalRows } from '../helpers/features.js';

const mean = (values: Float64Array) => values.reduce((sum, v) => sum + v, 0) / values.length;
const rows = (n: number, seed: number) => normalRows(n, 4, seed).to({ dtype: 'float32' });
const nll = async (centres: Tensor, training: Tensor, test: Tensor) => {
  const found = await mixtureLikelihoods(centres, training, test);
  return { test: mean(found.test), fitted: mean(found.fitted) };
};

describe('the likelihood of held-out images', () => {
  it('under centres of their own kind comes near their entropy', async () => {
    // Per dimension, N(0, 1) has ½ ln(2πe) = 1.419; a mixture of 300 centres stays a little above.
    const { test } = await nll(rows(300, 1), rows(300, 2), rows(300, 3));
    expect(test).toBeGreaterThan(1.3);
    expect(test).toBeLessThan(1.6);
  });

  it('falls with samples that are off, or copies of the training images', async () => {
    const [training, test] = [rows(300, 2), rows(300, 3)];
    const good = await nll(rows(300, 1), training, test);
    const shifted = await nll(rows(300, 1).add(2), training, test);
    const copies = await nll(training.clone(), training, test);
    // Even without usable centres, the wide component bounds it.
    const useless = await nll(rows(300, 1).add(1000), training, test);
    for (const worse of [shifted, copies, useless]) expect(worse.test).toBeGreaterThan(good.test + 0.02);
    expect(useless.test).toBeLessThan(4);
    // The gap shows the copies alone.
    expect(copies.fitted - copies.test).toBeLessThan(-1);
    expect(Math.abs(good.fitted - good.test)).toBeLessThan(0.2);
  });

  it('leaves no tensors behind', async () => {
    const sets = [rows(20, 1), rows(20, 2), rows(20, 3)] as const;
    await collectGarbage();
    const before = torch.liveTensors();
    await mixtureLikelihoods(...sets);
    expect(torch.liveTensors()).toBe(before);
  });
});

it('features are scaled by the held-out images; one that never changes stays at 0', () => {
  const x = torch.cat([normalRows(50, 3, 1).mul(7).add(3), torch.ones([50, 1], { dtype: 'float64' })], 1);
  const [variance, means] = torch.varMean(scaled(x, scalingOf(x)), [0], { correction: 0 });
  expect(means.abs().max().item()).toBeLessThan(1e-6);
  expect([...(variance.toTypedArray() as Float32Array)]).toEqual(
    [1, 1, 1, 0].map((v) => expect.closeTo(v, 5)),
  );
});
