/** The loss on images that training never sees. */
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { partOf } from '../common/random-part.js';
import { TorchRandom } from '../common/random-source.js';
import type { DataSet } from '../data/types.js';
import { denoisingLoss, type LossSpec } from '../diffusion/losses.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { makePatchBatch } from '../patches/batches.js';

const SEED = 20_230_425;
/** Draws are made for so many images at a time, however many a forward pass has. */
const BLOCK = 64;

/**
 * Mean denoising loss per element over whole held-out images, weighted as in training. Noise levels and noise have a fixed
 * seed of their own and do not depend on `batch`: figures can be compared between runs, and measuring leaves the training's
 * random stream alone.
 * @param denoiser the averaged weights
 * @param heldOut from {@link holdOut}
 * @param options.batch images per forward pass, at most 64
 * @example
 * ```ts
 * const photos = await openImages('photos.zip');
 * const { heldOut } = await holdOut(photos, 4, 1);
 * const denoiser = createDenoiser({
 *   type: 'pedm',
 *   network: { type: 'SongUNet', imgResolution: 16, inChannels: 5, outChannels: 3, modelChannels: 8 },
 * });
 * const loss = await heldOutLoss(denoiser, heldOut, { device: 'cpu', batch: 4 });
 * await photos.close();
 * ```
 */
export async function heldOutLoss(
  denoiser: Denoiser,
  heldOut: DataSet,
  { device, batch, loss }: { readonly device: Device; readonly batch: number; readonly loss?: LossSpec },
): Promise<number> {
  const size = Math.min(batch, BLOCK);
  const all = Array.from({ length: heldOut.length }, (_, index) => index);
  await heldOut.ready(all);
  let sum = 0;
  let count = 0;
  for (let start = 0; start < all.length; start += BLOCK) {
    const block = all.slice(start, start + BLOCK);
    for (let begin = 0; begin < block.length; begin += size) {
      const part = { begin, end: Math.min(begin + size, block.length) };
      torch.noGrad(() =>
        torch.scope(() => {
          const random = partOf(
            new TorchRandom(device, new torch.Generator(device, SEED + start)),
            block.length,
            part,
          );
          const images = block.slice(part.begin, part.end);
          const losses = denoisingLoss(
            denoiser,
            makePatchBatch(heldOut, images, heldOut, { random, device }),
            random,
            loss,
          );
          sum += losses.sum().item();
          count += losses.numel;
        }),
      );
      await new Promise(setImmediate);
    }
  }
  return sum / count;
}
