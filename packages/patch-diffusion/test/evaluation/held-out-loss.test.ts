import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { openImages } from '../../src/data/open-images.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import {
  lossGap,
  lossPerImage,
  lossPerLevel,
  measureLosses,
  SIGMAS,
} from '../../src/evaluation/held-out-loss.js';
import { imageFolder } from '../helpers/images.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const whole = { height: 8, width: 8 };
const options = { batch: 24, device: 'cpu' } as const;

async function grey(count: number) {
  const files = Array.from(
    { length: count },
    (_, k) => [`${k}.png`, [8, 8, `rgb(${128 + k},128,128)`]] as const,
  );
  return openImages(await imageFolder(await temporaryFolder(), Object.fromEntries(files)), { channels: 3 });
}

describe('the held-out loss', () => {
  // A network whose last layer is 0 gives D = c_skip · x. For y = 0 the weighted loss is σ_d² / (σ² + σ_d²) · mean ε².
  it('of a network that is 0 is what the formula gives at each noise level', async () => {
    using denoiser = createDenoiser({
      type: 'pedm',
      network: {
        type: 'SongUNet',
        imgResolution: 8,
        inChannels: 5,
        outChannels: 3,
        modelChannels: 8,
        channelMult: [1],
        numBlocks: 1,
        attnResolutions: [],
      },
    }).eval();
    const set = await grey(2);
    const table = await measureLosses(denoiser, set, 2, whole, options);
    const losses = lossPerLevel(table);
    // At higher levels the pixels count, which are 1/255 and not 0.
    for (const [k, sigma] of SIGMAS.slice(0, 10).entries()) {
      const expected = 0.25 / (sigma ** 2 + 0.25);
      // 2 · 192 squared draws: a relative deviation of √(2 / 384) = 7 %; y is 1/255 and not 0.
      expect(Math.abs(losses[k] / expected - 1), `σ = ${sigma}`).toBeLessThan(0.25);
    }
    await set.close();
  });

  it('does not depend on the batch, and adds nothing to the random stream', async () => {
    using denoiser = tinyDenoiser(1);
    const set = await grey(5);
    torch.manualSeed(3);
    const next = () => torch.rand([4]).toTypedArray();
    const expected = next();
    torch.manualSeed(3);
    const one = await measureLosses(denoiser, set, 5, whole, { ...options, batch: 1 });
    expect(next()).toEqual(expected);
    const all = await measureLosses(denoiser, set, 5, whole, { ...options, batch: 64 });
    const [a, b] = [lossPerImage(one), lossPerImage(all)];
    for (const [k, value] of a.entries()) expect(value).toBeCloseTo(b[k], 5);
    await set.close();
  });

  it('on patches looks at each patch with its coordinates', async () => {
    using denoiser = tinyDenoiser(2);
    const set = await grey(3);
    const small = await measureLosses(denoiser, set, 3, { height: 4, width: 4 }, options);
    expect(small.flatMap((row) => [...row]).every((loss) => loss > 0)).toBe(true);
    await set.close();
  });

  it('gap is the share by which held-out images are worse at σ = 0.2', () => {
    const training = SIGMAS.map(() => Float64Array.from({ length: 50 }, (_, k) => 1 + (k % 5) / 100));
    const heldOut = training.map((row) => row.map((loss) => 1.1 * loss));
    const { value, low, high } = lossGap(heldOut, training);
    expect(value).toBeCloseTo(0.1, 12);
    expect(low).toBeGreaterThan(0.09);
    expect(high).toBeLessThan(0.11);
  });
});
