/** How a run uses a GPU: images that lie there, passes as graphs, results that are read one update late. */
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { TrainOptions } from '../config/train-options.js';
import { DeviceImages, fitsOnDevice } from '../data/device-images.js';
import type { DataSet } from '../data/types.js';
import type { Ranks } from '../distributed/ranks.js';
import type { TrainEventListener } from './events.js';
import { PassGraphs } from './pass-graphs.js';
import type { TrainingState } from './step.js';

/** The images that a run trains on: where they fit on a GPU, patches are cut there. */
export function imagesFor(device: Device, images: DataSet): DataSet {
  return device.startsWith('cuda') && fitsOnDevice(images, device)
    ? new DeviceImages(images, device)
    : images;
}

/**
 * Whether results are read while the GPU already works on the next update: not where they decide about it, which ranks,
 * dynamic loss scaling and the noise levels by losses do.
 */
export function readsLater(
  device: Device,
  { lossScale, noise }: TrainingState,
  ranks: Ranks | null,
): boolean {
  return device.startsWith('cuda') && !ranks && !lossScale && !noise;
}

/** Passes as graphs, where the device has graphs and the passes of a patch size are all alike; else null. */
export function passGraphs(
  { cudaGraphs, objective, dropout, labelDropout }: TrainOptions,
  { denoiser }: TrainingState,
  device: Device,
  { ranks, emit }: { readonly ranks: Ranks | null; readonly emit: TrainEventListener },
): PassGraphs | null {
  if (!cudaGraphs || ranks || objective !== 'denoising' || !torch.hasGraphs(device)) return null;
  return new PassGraphs({
    pool: new torch.GraphPool(device),
    parameters: denoiser.parameters(),
    isRepeatable: dropout === 0 && labelDropout === 0,
    onGiveUp: (reason) => {
      const message = `passes are not repeated as CUDA graphs (${reason}); training goes on without, as with --cuda-graphs false`;
      emit({ type: 'warning', code: 'NO_CUDA_GRAPHS', message });
    },
  });
}
