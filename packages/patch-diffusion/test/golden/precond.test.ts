import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { createDenoiser, IddpmDenoiser, VpDenoiser } from '../../src/diffusion/preconditioning.js';
import { precondFromOfficial } from '../../src/interchange/official-config.js';
import { describeGolden, expectClose, onDevice } from '../helpers/golden.js';

interface PrecondConfig {
  net: { class: string; kwargs: Record<string, unknown>; model_kwargs: Record<string, unknown> };
  inputs: string[];
}

describeGolden<PrecondConfig>('precond', ['precond'], ({ config, tensor, has, group }) => {
  const { class: className, kwargs, model_kwargs } = config.net;
  const denoiser = onDevice(createDenoiser(precondFromOfficial(className, kwargs, model_kwargs))).eval();
  const params = group('param.');
  if (denoiser instanceof IddpmDenoiser) checkTable(denoiser, params.get('u')!);
  denoiser.loadStateDict(params);

  // What reaches the inner network.
  const inner: { x?: torch.Tensor; noise?: torch.Tensor } = {};
  const forward = denoiser.model.forward.bind(denoiser.model);
  denoiser.model.forward = (x, noise, conditioning) => {
    Object.assign(inner, { x: torch.keep(x.clone()), noise: torch.keep(noise.clone()) });
    return forward(x, noise, conditioning);
  };

  for (const tag of config.inputs) {
    const optional = (name: string) => (has(`in.${tag}.${name}`) ? tensor(`in.${tag}.${name}`) : null);
    const D = torch.noGrad(() =>
      denoiser.forward(tensor(`in.${tag}.x`), tensor(`in.${tag}.sigma`), {
        positions: optional('x_pos'),
        classLabels: optional('class_labels'),
        augmentLabels: optional('augment_labels'),
      }),
    );
    expectClose(D, tensor(`out.${tag}.D_x`), 1e-5, 0, `${tag}: D_x`);
    expectClose(inner.x!, tensor(`out.${tag}.model_x`), 1e-5, 0, `${tag}: model_x`);
    expectClose(inner.noise!, tensor(`out.${tag}.c_noise`), 1e-5, 0, `${tag}: c_noise`);
  }

  const finite = (x: number) => (x === Infinity ? 1e300 : x);
  expectEach([finite(denoiser.sigmaMin)], tensor('out.sigma_min').reshape([1]), 1e-7, 'sigma_min');
  expectEach([finite(denoiser.sigmaMax)], tensor('out.sigma_max').reshape([1]), 1e-6, 'sigma_max');

  const sigmas = tensor('in.sigma_list.f64').toTypedArray() as Float64Array;
  // The table is float32, whatever precision the rounded levels are returned in.
  const rounded = (levels: readonly number[]) => levels.map((sigma) => denoiser.roundSigma(sigma));
  expectEach(rounded([...sigmas]), tensor('out.round_sigma.f64'), 1e-7, 'round_sigma.f64');
  expectEach(
    rounded(Array.from(sigmas, Math.fround)),
    tensor('out.round_sigma.f32'),
    1e-7,
    'round_sigma.f32',
  );
  if (denoiser instanceof IddpmDenoiser) {
    const indices = Float64Array.from(sigmas, (sigma) => denoiser.nearestIndex(sigma));
    expectClose(torch.tensor(indices), tensor('out.round_sigma.index'), 0);
    const steps = tensor('in.alpha_bar_j').toTypedArray() as BigInt64Array;
    const ours = Float64Array.from(steps, (j) => denoiser.alphaBar(Number(j)));
    // A few roundings of float32.
    expectClose(torch.tensor(ours), tensor('out.alpha_bar'), 5e-7);
  }
  if (denoiser instanceof VpDenoiser) {
    const inverse = Float64Array.from(sigmas, (sigma) => denoiser.sigmaInverse(sigma));
    expectClose(torch.tensor(inverse), tensor('out.sigma_inv.f64'), 1e-12);
    expectClose(torch.tensor(Float32Array.from(inverse)), tensor('out.sigma_inv.f32'), 1e-6);
    const times = tensor('in.t.f64').toTypedArray() as Float64Array;
    const levels = Float64Array.from(times, (t) => denoiser.sigma(t));
    expectClose(torch.tensor(levels), tensor('out.sigma_of_t.f64'), 1e-12);
    // The float32 variant amplifies a rounding of its exponent.
    expectClose(torch.tensor(Float32Array.from(levels)), tensor('out.sigma_of_t.f32'), 1e-5);
  }
  denoiser.dispose();
});

/** Compares each value relative to itself. */
function expectEach(actual: readonly number[], expected: torch.Tensor, relative: number, what: string): void {
  const values = expected.to({ dtype: 'float64' }).toTypedArray() as Float64Array;
  expect(actual.length).toBe(values.length);
  for (const [i, value] of values.entries())
    expect(Math.abs(actual[i] - value), `${what} ${i}`).toBeLessThanOrEqual(relative * Math.abs(value));
}

/** The freshly computed table: 2e-5 relative above 0.05; 2e-3 below, where the recurrence amplifies roundings. */
function checkTable({ u }: IddpmDenoiser, expected: torch.Tensor): void {
  const [ours, theirs] = [u, expected].map((t) => t.toFloat32Array());
  expect(ours.length).toBe(theirs.length);
  for (const [j, sigma] of theirs.entries()) {
    // The recurrence amplifies roundings of the sine where levels are small.
    const tolerance = sigma > 100 ? 0 : sigma > 1 ? 1e-6 : sigma > 0.05 ? 2e-5 : 2e-3;
    expect(Math.abs(ours[j] - sigma), `u[${j}]`).toBeLessThanOrEqual(sigma * tolerance);
  }
}
