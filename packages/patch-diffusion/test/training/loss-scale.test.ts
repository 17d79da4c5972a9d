import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { Adam } from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { TorchRandom } from '../../src/common/random-source.js';
import { InfiniteSampler } from '../../src/data/sampler.js';
import { newCounters, readTrainingState, writeTrainingState } from '../../src/training/checkpoint.js';
import { DynamicLossScale } from '../../src/training/loss-scale.js';
import { makeGenerators } from '../../src/training/random-streams.js';
import { type StepOptions, type TrainingState, trainStep } from '../../src/training/step.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const image = { height: 8, width: 8 };

function makeState(lossScale: DynamicLossScale | null): TrainingState {
  // In evaluation mode, so that no dropout tells two updates apart.
  const denoiser = tinyDenoiser(5).requiresGrad(true);
  const optimizer = new Adam(denoiser.namedParameters(), { lr: 1e-3, eps: 1e-20 });
  return { denoiser, ema: tinyDenoiser(5), optimizer, lossScale, nimg: 0, step: 0 };
}

/** One update on fixed latents, all of them `fill`. */
function update(state: TrainingState, lossScaling = 1, fill = 0.5) {
  const options: StepOptions = {
    ...{ lr: 1e-3, lrRampupKimg: 0, emaHalflifeKimg: 1, emaRampupRatio: null, lossScaling },
    ...{ device: 'cpu', lossNorm: 'sum', loss: { type: 'edm' }, augment: null, augmentAt: 'patch' },
    source: {
      ...{ ...image, channels: 3, labelDim: 0, latents: { scale: 1, shift: 0 } },
      // Means and standard deviations.
      gather: () => new Float32Array(2 * 4 * 3 * 64).fill(fill, 0, 4 * 3 * 64),
      labels: () => new Float32Array(),
    },
  };
  const random = new TorchRandom('cpu', new torch.Generator('cpu', 9));
  const microBatch = { patch: image, indices: [0, 1, 2, 3], weight: 1, random };
  return trainStep(state, { microBatches: [microBatch], nimg: 4 }, options);
}

const weightsOf = (state: TrainingState) => state.denoiser.parameters().map((p) => p.toFloat32Array());

function dispose(...states: TrainingState[]): void {
  for (const { denoiser, ema, optimizer } of states) {
    denoiser.dispose();
    ema.dispose();
    optimizer.dispose();
  }
}

describe('dynamic loss scaling', () => {
  it('halves on overflow, doubles after 2000 good updates, within bounds', () => {
    const scale = new DynamicLossScale();
    expect(scale.scale).toBe(2 ** 16);
    scale.update(false);
    expect(scale.scale).toBe(2 ** 15);
    for (let i = 0; i < 1999; i++) scale.update(true);
    expect(scale.scale).toBe(2 ** 15);
    scale.update(true);
    expect(scale.state).toEqual({ scale: 2 ** 16, goodSteps: 0 });
    scale.update(true);
    const copy = new DynamicLossScale();
    copy.state = scale.state;
    expect(copy.state).toEqual({ scale: 2 ** 16, goodSteps: 1 });
    for (let i = 0; i < 30; i++) scale.update(false);
    expect(scale).toMatchObject({ scale: 1, isLowest: true });
  });

  it('does not change the update: a power of two is divided out exactly', async () => {
    const [plain, scaled] = [makeState(null), makeState(new DynamicLossScale())];
    const [a, b] = [await update(plain), await update(scaled)];
    expect(b.gradNorm).toBeCloseTo(a.gradNorm, 4);
    expect(weightsOf(scaled)).toEqual(weightsOf(plain));
    dispose(plain, scaled);
  });

  it('leaves the weights and moments alone when the gradient overflows', async () => {
    const state = makeState(new DynamicLossScale());
    const before = weightsOf(state);
    const result = await update(state, 1, Number.POSITIVE_INFINITY);
    expect(result).toMatchObject({ skipped: true });
    expect(weightsOf(state)).toEqual(before);
    expect(state).toMatchObject({ nimg: 4, step: 1 });
    expect(state.lossScale!.scale).toBe(2 ** 15);
    expect(await update(state)).toMatchObject({ skipped: false });
    dispose(state);
  });

  it('is saved with the training state', async () => {
    const file = join(await temporaryFolder(), 'state.safetensors');
    const resumable = (lossScale: DynamicLossScale) => ({
      state: makeState(lossScale),
      counters: newCounters(),
      order: new InfiniteSampler({ length: 4, seed: 0 }),
      patchRandom: new Mt19937(0),
      generators: makeGenerators('cpu', false),
      device: 'cpu',
    });
    const saved = resumable(new DynamicLossScale());
    saved.state.lossScale!.state = { scale: 512, goodSteps: 77 };
    await writeTrainingState(file, saved);
    const read = resumable(new DynamicLossScale());
    await readTrainingState(file, read);
    expect(read.state.lossScale!.state).toEqual({ scale: 512, goodSteps: 77 });
    dispose(saved.state, read.state);
  });

  it('a constant factor stays in the gradient, as published', async () => {
    const [one, hundred] = [makeState(null), makeState(null)];
    const norms = [await update(hundred, 100), await update(one)].map(({ gradNorm }) => gradNorm);
    expect(norms[0] / norms[1]).toBeCloseTo(100, 2);
    dispose(one, hundred);
  });
});
