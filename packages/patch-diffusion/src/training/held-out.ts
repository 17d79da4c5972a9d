/**
 * Loss on held-out whole images. Noise levels and noise come from a fixed seed of their own, so that the figures of a
 * run can be compared with each other and measuring does not disturb the training's random stream.
 */
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { TorchRandom } from '../common/random-source.js';
import type { DataSet } from '../data/types.js';
import { denoisingLoss, type LossSpec } from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { makePatchBatch } from './rounds.js';

const SEED = 20_230_425;

/** Mean weighted denoising loss per element over whole images, with the given (averaged) weights. */
export async function heldOutLoss(
  denoiser: Denoiser,
  images: DataSet,
  options: { readonly loss: LossSpec; readonly batch: number; readonly device: Device },
): Promise<number> {
  const random = new TorchRandom(options.device, new torch.Generator(options.device, SEED));
  const whole = { height: images.height, width: images.width, probability: 1, multiplier: 1 };
  const all = Array.from({ length: images.length }, (_, index) => index);
  await images.ready(all);
  let sum = 0;
  let count = 0;
  for (let start = 0; start < all.length; start += options.batch) {
    torch.noGrad(() =>
      torch.scope(() => {
        const batch = makePatchBatch(
          images,
          all.slice(start, start + options.batch),
          whole,
          random,
          options.device,
        );
        const loss = denoisingLoss(denoiser, batch, random, options.loss);
        sum += loss.sum().item();
        count += loss.numel;
      }),
    );
    await new Promise(setImmediate);
  }
  return sum / count;
}
