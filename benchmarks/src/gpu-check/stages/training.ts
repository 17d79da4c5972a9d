/** The training step on the device: whether it repeats itself, and how often it waits for the device. */
import { createHash } from 'node:crypto';
import * as torch from '@patch-diffusion/torch';
import { presetOptions } from '../../command-line.js';
import { now } from '../../timing.js';
import { TrainingStep } from '../../training-step.js';
import { type StageContext, sizesFor } from './context.js';

/** The same updates twice, with the library's deterministic kernels and as a training runs. */
export async function determinism({ device, emit }: StageContext): Promise<void> {
  for (const precision of ['fp32', 'bf16'] as const) {
    for (const isForced of [true, false]) {
      torch.setFlag('deterministic', isForced);
      const digests = [await trainedDigest(device, precision), await trainedDigest(device, precision)];
      const isSame = digests[0] === digests[1];
      emit({
        name: `the same updates twice, ${precision}, ${isForced ? 'deterministic kernels' : 'default kernels'}`,
        // Default kernels may add up in any order on a GPU.
        status: isSame || !isForced ? 'ok' : 'failed',
        detail: isSame ? 'the same weights, bit for bit' : 'other weights',
        figures: { same: Number(isSame) },
      });
    }
  }
}

/** Digest of the weights after some updates at each patch size, from one seed. */
async function trainedDigest(device: string, precision: 'fp32' | 'bf16'): Promise<string> {
  const { preset, updates } = sizesFor(device);
  const step = new TrainingStep({ train: presetOptions(preset), batch: 4, device, precision });
  for (let i = 0; i < updates; i++) for (const patch of step.sizes) await step.runWhole(patch);
  const hash = createHash('sha256');
  for (const tensor of step.denoiser.stateDict().values()) hash.update(tensor.toTypedArray());
  step.dispose();
  return hash.digest('hex');
}

/**
 * How often an update waits for the device to read a result, and when it first does: what is enqueued by then was enqueued
 * without a wait, else that moment would lie near the end of the update.
 */
export async function waits({ device, emit }: StageContext): Promise<void> {
  const { preset, batch } = sizesFor(device);
  const step = new TrainingStep({ train: presetOptions(preset), batch, device, precision: 'auto' });
  for (const patch of step.sizes) {
    await step.runWhole(patch); // warms up
    const reads = watchReads(device);
    const begin = now(device);
    const { wall } = await step.runWhole(patch);
    const { count, first } = reads.stop();
    const queuedMs = (first - begin) * 1000;
    emit({
      name: `update at ${patch.width} px`,
      status: count <= 1 || device === 'cpu' ? 'ok' : 'failed',
      detail:
        device === 'cpu'
          ? 'nothing is enqueued on a CPU'
          : `${count} read of results (the losses), after ${queuedMs.toFixed(1)} of ${(wall * 1000).toFixed(1)} ms; the norm of the gradient is a second wait`,
      figures: { reads: count, queuedMs, wallMs: wall * 1000 },
    });
  }
}

/** Watches the methods that wait for a tensor's device. */
function watchReads(device: string): { stop(): { count: number; first: number } } {
  const prototype = torch.Tensor.prototype;
  const { item, copyToArray, toFloat32Array } = prototype;
  let count = 0;
  let first = Number.NaN;
  const see = (tensor: torch.Tensor): void => {
    if (!tensor.device.startsWith(device)) return;
    if (count++ === 0) first = performance.now() / 1000;
  };
  prototype.item = function () {
    see(this);
    return item.call(this);
  };
  prototype.copyToArray = function (array) {
    see(this);
    return copyToArray.call(this, array) as typeof array;
  };
  prototype.toFloat32Array = function () {
    if (this.dtype !== 'float32') see(this); // else it calls copyToArray
    return toFloat32Array.call(this);
  };
  return {
    stop() {
      Object.assign(prototype, { item, copyToArray, toFloat32Array });
      return { count, first };
    },
  };
}
