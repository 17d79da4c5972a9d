import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { guidedDenoise } from '../../src/diffusion/guidance.js';
import { vpSigma } from '../../src/diffusion/noise-levels.js';
import { createDenoiser, type Denoiser, IddpmDenoiser } from '../../src/diffusion/preconditioning.js';
import { toUint8 } from '../../src/diffusion/sample.js';
import { PerSampleRandom } from '../../src/diffusion/sample-noise.js';
import {
  type Query,
  runStep,
  type Sampler,
  type SigmaRange,
} from '../../src/diffusion/samplers/array-math.js';
import { planSampler, type SamplerOptions } from '../../src/diffusion/samplers/index.js';
import { tensorMath } from '../../src/diffusion/tensor-math.js';
import { camelCaseKeys, precondFromOfficial } from '../../src/interchange/official-config.js';
import { windowPositions } from '../../src/patches/crops.js';
import { embedPositions } from '../../src/patches/position-embedding.js';
import {
  describeGolden,
  expectClose,
  type Golden,
  goldenDir,
  goldenFiles,
  onDevice,
  openGolden,
} from '../helpers/golden.js';

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
  rows: (Pick<Call, 'fn' | 'source' | 'kwargs'> & { tag: string; net: string; num_steps: number })[];
  net_ranges: Record<string, { sigma_min: number; sigma_max: number | 'inf' }>;
  label_dim: number;
  num_freqs: number;
}

describeGolden<SamplerConfig>('samplers', ['sampler', 't_steps', 'rng_and_output'], (golden) => {
  if (golden.config.kind === 'sampler') checkTrajectories(golden);
  else if (golden.config.kind === 't_steps') checkTimeSteps(golden);
  else checkStreams(golden);
});

/** Options in our spelling. The ablation sampler of Patch Diffusion has another default range than EDM's. */
function samplerOptions(call: Pick<Call, 'fn' | 'source' | 'kwargs'>): SamplerOptions {
  // S_churn, C_1 and the like are not camel case in the official spelling.
  const renamed = Object.entries(call.kwargs).map(([key, value]) => [key.replace(/^S_/, 's_'), value]);
  const options: SamplerOptions = {
    sampler: call.fn === 'edm_sampler' ? 'edm' : 'generalised',
    ...(camelCaseKeys(Object.fromEntries(renamed)) as SamplerOptions),
  };
  if (call.source !== 'patch-diffusion' || options.discretization !== 'vp') return options;
  const sigma = vpSigma(19.1, 0.1);
  return { sigmaMin: sigma(options.epsilonS ?? 1e-3), sigmaMax: sigma(1), ...options };
}

function checkTrajectories({ config, tensor, has, group }: Golden<SamplerConfig>): void {
  const { class: className, kwargs, model_kwargs } = config.net;
  const denoiser = onDevice(createDenoiser(precondFromOfficial(className, kwargs, model_kwargs))).eval();
  denoiser.loadStateDict(group('param.'));
  for (const [tag, call] of Object.entries(config.calls)) {
    const optional = (name: string) => (has(name) ? tensor(name) : null);
    const inputs = {
      positions: call.mask_pos ? null : optional(`in.${call.inputs}.latents_pos`),
      classLabels: optional(`in.${call.inputs}.class_labels`),
    };
    const guidance = call.cfg === null ? null : { scale: call.cfg };
    const options = samplerOptions(call);
    const tolerance = isPublished(options) ? 2e-5 : 3e-4;
    const sampler = planSampler(options, denoiser);
    expectTimes(sampler, options, tensor(`out.${tag}.t_steps`), optional(`out.${tag}.sigma_steps`), tag);
    const noise = optional(`in.${tag}.noise`);
    if (!noise) expect(sampler.needsNoise, `${tag}: needs noise`).toBe(false);
    const expected = tensor(`out.${tag}.x_steps`);
    const denoise = ({ x, sigma }: Query<torch.Tensor>) =>
      guidedDenoise(denoiser, x, sigma, inputs, guidance);
    torch.noGrad(() =>
      torch.scope(() => {
        let state = {
          x: tensor(`in.${call.inputs}.latents`).to({ dtype: 'float64' }).mul(sampler.initialScale),
        };
        expectClose(state.x, expected.select(0, 0), 2e-5, 0, `${tag}: start`);
        for (let i = 0; i < sampler.sigmas.length; i++) {
          const draw = noise ? noise.select(0, i) : null;
          state = runStep(sampler.step(tensorMath, i, state, draw), denoise);
          expectClose(state.x, expected.select(0, i + 1), tolerance, 0, `${tag}: step ${i}`);
        }
      }),
    );
  }
  denoiser.dispose();
}

/** Whether a method's own schedule and scaling are combined, or the edm sampler is used; the others amplify more. */
function isPublished(options: SamplerOptions): boolean {
  const { sampler, discretization = 'edm', schedule = 'linear', scaling = 'none' } = options;
  const combination = [discretization, schedule, scaling].join();
  return (
    sampler === 'edm' ||
    ['edm,linear,none', 'iddpm,linear,none', 'vp,vp,vp', 've,ve,none'].includes(combination)
  );
}

/** Relative to each value; the iDDPM table is ill-conditioned for small levels (see the README of the vectors). */
function expectTimes(
  { sigmas, times }: Sampler,
  { sampler, discretization = 'edm', schedule = 'linear' }: SamplerOptions,
  expectedTimes: torch.Tensor,
  expectedSigmas: torch.Tensor | null,
  tag: string,
): void {
  const bound = (sigma: number) => {
    if (sampler === 'generalised' && discretization === 'iddpm') return sigma > 0.05 ? 2e-5 : 2e-3;
    return sampler === 'generalised' && (discretization === 'vp' || schedule === 'vp') ? 1e-8 : 1e-12;
  };
  const compare = (actual: Float64Array, expected: torch.Tensor, what: string, factor: number) => {
    const values = expected.toTypedArray() as Float64Array;
    expect(actual.length).toBe(values.length);
    for (const [i, value] of values.entries()) {
      const limit = Math.abs(value) * bound(sigmas[i]) * factor;
      expect(Math.abs(actual[i] - value), `${tag}: ${what} ${i}`).toBeLessThanOrEqual(limit);
    }
  };
  if (expectedSigmas) compare(sigmas, expectedSigmas, 'noise level', 1);
  // t = σ² has twice the relative error of σ.
  compare(times, expectedTimes, 'time', schedule === 've' ? 2 : 1);
}

function checkTimeSteps({ config, tensor }: Golden<SamplerConfig>): void {
  const rounding = iddpmRounding();
  for (const row of config.rows) {
    const { sigma_min, sigma_max } = config.net_ranges[row.net];
    const range: SigmaRange = {
      sigmaMin: sigma_min,
      sigmaMax: sigma_max === 'inf' ? Number.POSITIVE_INFINITY : sigma_max,
      roundSigma: (sigma) => (row.net === 'iddpm' ? rounding.roundSigma(sigma) : sigma),
    };
    const options = { ...samplerOptions(row), numSteps: row.num_steps };
    const discretization = row.net === 'iddpm' ? 'iddpm' : options.discretization;
    const bounds: SamplerOptions = row.net === 'iddpm' ? { sampler: 'generalised', discretization } : options;
    expectTimes(planSampler(options, range), bounds, tensor(`out.t_steps.${row.tag}`), null, row.tag);
  }
  rounding.dispose();
}

/** The iDDPM denoiser with default constants; its table is that of the preconditioner's vectors where they have one. */
function iddpmRounding(): Denoiser {
  const rounding = new IddpmDenoiser({
    type: 'iddpm',
    network: {
      type: 'DhariwalUNet',
      imgResolution: 8,
      inChannels: 3,
      outChannels: 6,
      modelChannels: 8,
      channelMult: [1],
    },
  });
  for (const name of goldenFiles('precond')) {
    const { config, tensor } = openGolden<SamplerConfig>(join(goldenDir, 'precond', name));
    const { C_1 = 0.001, C_2 = 0.008, M = 1000 } = config.net.kwargs;
    if (config.net.class !== 'iDDPMPrecond' || C_1 !== 0.001 || C_2 !== 0.008 || M !== 1000) continue;
    rounding.u.copy_(tensor('param.u'));
  }
  return rounding;
}

function checkStreams({ config, tensor, has, group }: Golden<SamplerConfig>): void {
  const seeds = Array.from(tensor('in.seeds').toTypedArray() as BigInt64Array, Number);
  const random = new PerSampleRandom(seeds);
  const latents = tensor('out.latents');
  const shape = latents.shape.slice(1);
  expectClose(random.randn(shape), latents, 0, 0, 'latents');
  if (has('out.class_idx')) {
    const classes = Array.from(tensor('out.class_idx').toTypedArray() as BigInt64Array, Number);
    expect(random.integers(config.label_dim)).toEqual(classes);
  }
  for (let n = 1; has(`out.noise_${n}`); n++)
    expectClose(random.randn(shape, 'float64'), tensor(`out.noise_${n}`), 0, 0, `noise ${n}`);

  const images = tensor('in.image_f64');
  const nhwc = tensor('out.image_u8_nhwc').permute([0, 3, 1, 2]).contiguous().toTypedArray();
  expect(toUint8(images)).toEqual(nhwc);

  for (const [tag, expected] of group('out.latents_pos.')) {
    const [r, s, x, y] = /r(\d+)_s(\d+)_x(-?\d+)_y(-?\d+)/.exec(tag)!.slice(1).map(Number);
    const window = { height: s, width: s, xStart: x, yStart: y };
    expectClose(windowPositions(window, { height: r, width: r }).squeeze(0), expected, 0, 1e-6, tag);
  }

  const embedded = embedPositions(tensor('in.pos'), config.num_freqs);
  expectClose(embedded, tensor('out.pos_embedding'), 0, 1e-6, 'position embedding');
}
