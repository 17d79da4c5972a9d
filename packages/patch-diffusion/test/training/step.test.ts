import * as torch from '@patch-diffusion/torch';
import { Adam } from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { trainStep } from '../../src/training/step.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

it('gives heartbeats and signals their turn between the rounds of an update', async () => {
  const image = { height: 8, width: 8 };
  const denoiser = tinyDenoiser(5).requiresGrad(true);
  const optimizer = new Adam(denoiser.namedParameters(), { lr: 1e-3 });
  const state = { denoiser, ema: tinyDenoiser(5), optimizer, nimg: 0, step: 0 };
  let turns = 0;
  const seen: number[] = [];
  const round = {
    ...{ patch: image, count: 2, weight: 1 / 3, random: new TorchRandom('cpu') },
    makeBatch: () => {
      seen.push(turns);
      setImmediate(() => turns++);
      return { images: torch.zeros([2, 3, 8, 8]), positions: torch.zeros([2, 2, 8, 8]) };
    },
  };
  await trainStep(
    state,
    { rounds: [round, round, round], images: 6 },
    {
      ...{ lr: 1e-3, lrRampupKimg: 0, emaHalflifeKimg: 1, emaRampupRatio: null, lossScaling: 1, image },
      ...{ lossNorm: 'sum', loss: { type: 'edm' } },
    },
  );
  expect(seen).toEqual([0, 1, 2]);
  expect(state).toMatchObject({ nimg: 6, step: 1 });
  for (const part of [denoiser, state.ema, optimizer]) part.dispose();
});
