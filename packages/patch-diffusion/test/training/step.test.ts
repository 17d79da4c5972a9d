import { Adam } from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { trainStep } from '../../src/training/step.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

it('gives heartbeats and signals their turn between the micro-batches of an update', async () => {
  const image = { height: 8, width: 8 };
  const denoiser = tinyDenoiser(5).requiresGrad(true);
  const optimizer = new Adam(denoiser.namedParameters(), { lr: 1e-3 });
  const state = { denoiser, ema: tinyDenoiser(5), optimizer, nimg: 0, step: 0 };
  let turns = 0;
  const seen: number[] = [];
  const source = {
    ...{ ...image, channels: 3, labelDim: 0, latents: null, labels: () => new Float32Array() },
    gather: () => {
      seen.push(turns);
      setImmediate(() => turns++);
      return new Uint8Array(2 * 3 * 8 * 8);
    },
  };
  const microBatch = { patch: image, indices: [0, 1], weight: 1 / 3, random: new TorchRandom('cpu') };
  await trainStep(
    state,
    { microBatches: [microBatch, microBatch, microBatch], nimg: 6 },
    {
      ...{ lr: 1e-3, lrRampupKimg: 0, emaHalflifeKimg: 1, emaRampupRatio: null, lossScaling: 1 },
      ...{ source, device: 'cpu', lossNorm: 'sum', loss: { type: 'edm' }, augment: null, augmentAt: 'patch' },
    },
  );
  expect(seen).toEqual([0, 1, 2]);
  expect(state).toMatchObject({ nimg: 6, step: 1 });
  for (const part of [denoiser, state.ema, optimizer]) part.dispose();
});
