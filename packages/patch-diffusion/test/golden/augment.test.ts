import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { type AugmentTrace, augmentLabelDim, createAugment } from '../../src/diffusion/augmentation/index.js';
import { camelCaseKeys } from '../../src/interchange/official-config.js';
import { describeGolden, expectClose, replay } from '../helpers/golden.js';

interface AugmentConfig {
  pipe: Record<string, number>;
  draws: { name: string; shape: number[] }[];
}

describeGolden<AugmentConfig>('augment', ['augment'], ({ config, tensor, has, group }) => {
  const spec = camelCaseKeys(config.pipe);
  const used: string[] = [];
  const trace: AugmentTrace = {};
  const { images, labels } = createAugment(spec, trace)(tensor('in.images'), replay(group('in.draw.'), used));

  expect(used).toEqual(config.draws.map(({ name }) => name));
  expect(labels.shape[1]).toBe(augmentLabelDim(spec));
  expectClose(labels, tensor('out.labels'), 0, 1e-6, 'labels');
  expect(trace.warp !== undefined).toBe(has('out.theta'));
  if (trace.warp) {
    expectClose(torch.tensor([...trace.warp.pad]), tensor('out.pad'), 0, 0, 'pad');
    expectClose(trace.warp.theta, tensor('out.theta'), 0, 2e-6, 'theta');
  }
  expectClose(images, tensor('out.images'), 0, 2e-5, 'images');
});
