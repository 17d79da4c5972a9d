import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { createAugment } from '../../src/diffusion/augmentation/index.js';
import { denoisingLoss } from '../../src/diffusion/losses.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import {
  camelCaseKeys,
  lossFromOfficial,
  precondFromOfficial,
} from '../../src/interchange/official-config.js';
import { drawOffsets, extractPatches, patchPositions } from '../../src/patches/crops.js';
import { describeGolden, expectClose, onDevice, replay } from '../helpers/golden.js';

interface LossConfig {
  net: { class: string; kwargs: Record<string, unknown>; model_kwargs: Record<string, unknown> };
  loss: { class: string; kwargs: Record<string, number> };
  pipe: Record<string, number> | null;
  patch_size: number | null;
  loss_scaling: number;
  batch_gpu_total: number;
  batch_mul: number;
  draws: { name: string }[];
}

describeGolden<LossConfig>('loss', ['loss'], ({ config, tensor, group }) => {
  const { class: className, kwargs, model_kwargs } = config.net;
  // Training mode, as in the reference; dropout is off in the vectors.
  const denoiser = onDevice(createDenoiser(precondFromOfficial(className, kwargs, model_kwargs))).train();
  denoiser.loadStateDict(group('param.'));
  const spec = lossFromOfficial(config.loss.class, config.loss.kwargs);
  expect(spec, config.loss.class).not.toBeNull();
  const augment = config.pipe && createAugment(camelCaseKeys(config.pipe));
  const used: string[] = [];
  const random = replay(group('in.draw.'), used);

  const images = tensor('in.images');
  const labels = tensor('in.labels');
  const batch = config.patch_size === null ? { images } : cutPatches(images, config.patch_size, random);
  const loss = denoisingLoss(
    denoiser,
    { ...batch, labels: labels.numel ? labels : null },
    random,
    spec!,
    augment,
  );
  // The order among different kinds of draws is free here: each is replayed by its name.
  expect([...used].sort()).toEqual(config.draws.map(({ name }) => name).sort());
  expectClose(loss, tensor('out.loss'), 2e-5, 0, 'loss');
  expectClose(loss.mean(), tensor('out.loss_mean'), 2e-5, 0, 'mean');

  loss
    .sum()
    .mul(config.loss_scaling / config.batch_gpu_total / config.batch_mul)
    .backward();
  const parameters = new Map(denoiser.namedParameters());
  for (const [name, expected] of group('grad.param.')) {
    expectClose(parameters.get(name)!.grad ?? torch.zerosLike(expected), expected, 2e-4, 1e-6, name);
  }
  denoiser.dispose();
});

function cutPatches(images: torch.Tensor, side: number, random: Parameters<typeof drawOffsets>[3]) {
  const [N, , height, width] = images.shape;
  const [patch, image] = [
    { height: side, width: side },
    { height, width },
  ];
  const offsets = drawOffsets(N, patch, image, random);
  return {
    images: extractPatches(images, patch, offsets),
    positions: patchPositions(patch, image, offsets, images.device),
  };
}
