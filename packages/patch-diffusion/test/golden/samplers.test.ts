import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { guidedDenoise } from '../../src/diffusion/guidance.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { PerSampleRandom, tensorMath, toUint8 } from '../../src/diffusion/sample.js';
import { type Query, runStep, type SigmaRange } from '../../src/diffusion/samplers/array-math.js';
import { edmStep, type EdmSamplerOptions, edmTimeSteps } from '../../src/diffusion/samplers/edm.js';
import { camelCaseKeys, precondFromOfficial } from '../../src/interchange/official-config.js';
import { windowPositions } from '../../src/patches/patches.js';
import { describeGolden, expectClose, type Golden } from '../helpers/golden.js';

interface Call {
  source: string;
  fn: 'edm_sampler' | 'ablation_sampler';
  inputs: string;
  kwargs: Record<string, number | string>;
  cfg: number | null;
  mask_pos?: boolean;
}

interface SamplerConfig {
  kind: 'sampler' | 't_steps' | 'rng_and_output';
  net: { class: string; kwargs: Record<string, unknown>; model_kwargs: Record<string, unknown> };
  calls: Record<string, Call>;
  rows: { tag: string; fn: string; net: string; num_steps: number; kwargs: Record<string, number | string> }[];
  label_dim: number;
}

describeGolden<SamplerConfig>('samplers', (golden) => {
  if (golden.config.kind === 'sampler') checkTrajectories(golden);
  else if (golden.config.kind === 't_steps') checkTimeSteps(golden);
  else checkStreams(golden);
});

/** S_churn and the like are not camel case in the official spelling. */
function samplerOptions(kwargs: Call['kwargs']): EdmSamplerOptions {
  const renamed = Object.entries(kwargs).map(([key, value]) => [key.replace(/^S_/, 's_'), value]);
  return camelCaseKeys(Object.fromEntries(renamed)) as EdmSamplerOptions;
}

function checkTrajectories({ config, tensor, has, group }: Golden<SamplerConfig>): void {
  const { class: className, kwargs, model_kwargs } = config.net;
  const denoiser = createDenoiser(precondFromOfficial(className, kwargs, model_kwargs)).eval();
  denoiser.loadStateDict(group('param.'));
  for (const [tag, call] of Object.entries(config.calls)) {
    if (call.fn !== 'edm_sampler') continue;
    const optional = (name: string) => (has(name) ? tensor(name) : null);
    const inputs = {
      positions: call.mask_pos ? null : optional(`in.${call.inputs}.latents_pos`),
      classLabels: optional(`in.${call.inputs}.class_labels`),
    };
    const options = samplerOptions(call.kwargs);
    const times = edmTimeSteps(options, denoiser);
    expectClose(torch.tensor(times), tensor(`out.${tag}.t_steps`), 1e-12, 0, `${tag}: times`);
    const noise = optional(`in.${tag}.noise`);
    const expected = tensor(`out.${tag}.x_steps`);
    const denoise = ({ x, sigma }: Query<torch.Tensor>) => guidedDenoise(denoiser, x, sigma, inputs, call.cfg);
    torch.noGrad(() => {
      let x = tensor(`in.${call.inputs}.latents`).to({ dtype: 'float64' }).mul(times[0]);
      expectClose(x, expected.select(0, 0), 2e-5, 0, `${tag}: start`);
      for (let i = 0; i + 1 < times.length; i++) {
        const draw = noise ? noise.select(0, i) : null;
        x = torch.scope(() => runStep(edmStep(tensorMath, options, denoiser, times, i, x, draw), denoise));
        expectClose(x, expected.select(0, i + 1), 2e-5, 0, `${tag}: step ${i}`);
      }
    });
  }
  denoiser.dispose();
}

function checkTimeSteps({ config, tensor, has }: Golden<SamplerConfig>): void {
  const ranges = config as unknown as { net_ranges: Record<string, { sigma_min: number; sigma_max: number | 'inf' }> };
  let checked = 0;
  for (const row of config.rows) {
    // The iDDPM network rounds with a table of its own; its rows are checked with that network's trajectories.
    if (row.fn !== 'edm_sampler' || row.net === 'iddpm') continue;
    const { sigma_min, sigma_max } = ranges.net_ranges[row.net];
    const range: SigmaRange = {
      sigmaMin: sigma_min,
      sigmaMax: sigma_max === 'inf' ? Number.POSITIVE_INFINITY : sigma_max,
      roundSigma: (sigma) => sigma,
    };
    const times = edmTimeSteps({ ...samplerOptions(row.kwargs), numSteps: row.num_steps }, range);
    const name = `out.t_steps.${row.tag}`;
    expect(has(name)).toBe(true);
    expectClose(torch.tensor(times), tensor(name), 1e-12, 0, row.tag);
    checked += 1;
  }
  expect(checked).toBeGreaterThan(0);
}

function checkStreams({ config, tensor, group }: Golden<SamplerConfig>): void {
  const seeds = Array.from(tensor('in.seeds').toTypedArray() as BigInt64Array, Number);
  const random = new PerSampleRandom(seeds);
  const latents = tensor('out.latents');
  const shape = latents.shape.slice(1);
  expectClose(random.randn(shape), latents, 0, 0, 'latents');
  const classes = Array.from(tensor('out.class_idx').toTypedArray() as BigInt64Array, Number);
  expect(random.integers(config.label_dim)).toEqual(classes);
  for (const name of ['out.noise_1', 'out.noise_2']) expectClose(random.randn(shape, 'float64'), tensor(name), 0, 0, name);

  const images = tensor('in.image_f64');
  const nhwc = tensor('out.image_u8_nhwc').permute([0, 3, 1, 2]).contiguous().toTypedArray();
  expect(toUint8(images)).toEqual(nhwc);

  for (const [tag, expected] of group('out.latents_pos.')) {
    const [r, s, x, y] = /r(\d+)_s(\d+)_x(-?\d+)_y(-?\d+)/.exec(tag)!.slice(1).map(Number);
    const window = { height: s, width: s, xStart: x, yStart: y };
    expectClose(windowPositions(window, { height: r, width: r }).squeeze(0), expected, 0, 1e-6, tag);
  }
}
