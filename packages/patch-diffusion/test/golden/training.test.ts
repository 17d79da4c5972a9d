import * as torch from '@patch-diffusion/torch';
import { Adam, type Tensor } from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { createAugment } from '../../src/diffusion/augmentation/index.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { camelCaseKeys, precondFromOfficial } from '../../src/interchange/official-config.js';
import { drawOffsets, extractPatches, patchPositions } from '../../src/patches/patches.js';
import { defaultPatchSizes, meanMultiplier } from '../../src/patches/schedule.js';
import { copyWeights } from '../../src/training/ema.js';
import { type Round, type StepOptions, type TrainingState, trainStep } from '../../src/training/step.js';
import { describeGolden, expectClose, type Golden, replay } from '../helpers/golden.js';

interface TrainingConfig {
  net: { class: string; kwargs: Record<string, unknown>; model_kwargs: Record<string, unknown> };
  resolution: number;
  batch_size: number;
  batch_gpu: number;
  num_steps: number;
  real_p: number;
  start_nimg: number;
  lr_rampup_kimg: number;
  ema_halflife_kimg: number;
  ema_rampup_ratio: number | null;
  loss_scaling: number;
  loss_kwargs: { P_mean: number; P_std: number; sigma_data: number };
  pipe: Record<string, number> | null;
  optimizer_kwargs: { lr: number; betas: [number, number]; eps: number };
  grad_steps: number[];
  patch_size: number[][];
  param_order: string[];
  batch_mul_avg: number;
}

describeGolden<TrainingConfig>('training', ['training'], (golden) => {
  const { config, tensor, group } = golden;
  const { class: className, kwargs, model_kwargs } = config.net;
  const spec = precondFromOfficial(className, kwargs, model_kwargs);
  const denoiser = createDenoiser(spec).train();
  const ema = createDenoiser(spec).eval().requiresGrad(false);
  denoiser.loadStateDict(group('param.'));
  copyWeights(ema, denoiser);
  expect([...denoiser.namedParameters()].map(([name]) => name)).toEqual(config.param_order);
  const optimizer = new Adam(denoiser.namedParameters(), config.optimizer_kwargs);
  const state: TrainingState = { denoiser, ema, optimizer, nimg: config.start_nimg, step: 0 };

  const image = { height: config.resolution, width: config.resolution };
  const sizes = defaultPatchSizes(image, config.real_p, denoiser.model.sizeFactor);
  expect(meanMultiplier(sizes)).toBeCloseTo(config.batch_mul_avg, 12);
  const options: StepOptions = {
    lr: config.optimizer_kwargs.lr,
    lrRampupKimg: config.lr_rampup_kimg,
    emaHalflifeKimg: config.ema_halflife_kimg,
    emaRampupRatio: config.ema_rampup_ratio,
    lossScaling: config.loss_scaling,
    lossNorm: 'sum',
    image,
    loss: { type: 'edm', pMean: config.loss_kwargs.P_mean, pStd: config.loss_kwargs.P_std },
    augment: config.pipe && createAugment(camelCaseKeys(config.pipe)),
  };

  const column = (name: string) => tensor(name).toTypedArray() as Float64Array;
  const [lrs, betas, counts] = [column('out.lr'), column('out.ema_beta'), tensor('out.cur_nimg')];
  const lossSums = tensor('out.loss_sum');
  const norms = tensor('out.norms');
  for (let step = 0; step < config.num_steps; step++) {
    torch.scope(() => {
      const result = trainStep(
        state,
        { rounds: recordedRounds(golden, step), images: config.batch_size * config.batch_mul_avg },
        options,
      );
      expect(result.lr).toBeCloseTo(lrs[step], 14);
      expect(result.emaBeta).toBeCloseTo(betas[step], 12);
      expect(state.nimg).toBe(counts.select(0, step).item());
      for (const [round, { lossSum }] of result.rounds.entries()) {
        const expected = lossSums.select(0, step).select(0, round).item();
        expect(Math.abs(lossSum - expected) / expected, `loss of step ${step}, round ${round}`).toBeLessThan(
          1e-5,
        );
      }
      const gradNorms = norms.select(0, step).select(1, 0).to({ dtype: 'float64' });
      const total = gradNorms.square().sum().sqrt().item();
      expect(Math.abs(result.gradNorm - total) / total, `gradient norm of step ${step}`).toBeLessThan(1e-4);
    });
  }

  // Final weights, average and moments; for the tolerances see the README of the vectors.
  for (const [name, expected] of group('out.net.'))
    compare(name, denoiser.stateDict().get(name)!, expected, 2e-4, 5e-5);
  for (const [name, expected] of group('out.ema.'))
    compare(name, ema.stateDict().get(name)!, expected, 2e-4, 5e-5);
  const moments = optimizer.stateDict();
  for (const kind of ['exp_avg', 'exp_avg_sq']) {
    for (const [name, expected] of group(`out.adam.${kind}.`)) {
      compare(name, moments.get(`${kind}.${name}`)!, expected, 1e-3, kind === 'exp_avg' ? 1e-6 : 1e-9);
    }
  }
  denoiser.dispose();
  ema.dispose();
  optimizer.dispose();
});

/** The rounds of a step with the recorded images, patch sizes and draws. */
function recordedRounds({ config, tensor, group }: Golden<TrainingConfig>, step: number): Round[] {
  const images = tensor('in.dataset.images');
  const dataLabels = tensor('in.dataset.labels');
  return config.patch_size[step].map((side, round) => {
    const at = `in.step${String(step).padStart(2, '0')}.round${round}`;
    const indices = tensor(`${at}.indices`);
    const random = replay(group(`${at}.draw.`));
    const patch = { height: side, width: side };
    const image = { height: images.shape[2], width: images.shape[3] };
    return {
      patch,
      count: indices.numel,
      weight: 1 / config.patch_size[step].length,
      random,
      makeBatch: () => {
        const offsets = drawOffsets(indices.numel, patch, image, random);
        const whole = images.indexSelect(0, indices).to({ dtype: 'float32' }).div(127.5).sub(1);
        return {
          images: extractPatches(whole, patch, offsets),
          positions: patchPositions(patch, image, offsets),
          labels: dataLabels.numel ? dataLabels.indexSelect(0, indices) : null,
        };
      },
    };
  });
}

/** The key part of qkv.bias has no gradient in theory, so Adam normalises noise there: left out. */
function compare(name: string, actual: Tensor, expected: Tensor, relative: number, absolute: number): void {
  const relevant = (t: Tensor) => {
    if (!name.endsWith('qkv.bias')) return t.detach();
    const [q, , v] = t.detach().reshape([-1, 3]).unbind(1);
    return torch.cat([q, v]);
  };
  expectClose(relevant(actual), relevant(expected), relative, absolute, name);
}
