/** The training step on the device: whether it repeats itself, waits for the device, and runs as graphs. */
import { createHash } from 'node:crypto';
import * as torch from '@patch-diffusion/torch';
import { presetOptions } from '../../command-line.js';
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

/** Updates of a patch size after which its pass is a graph. */
const GRAPH_AFTER = 5;

/** How often an update waits for the device to read a result: never, since results are copied while the next one runs. */
export async function waits({ device, emit }: StageContext): Promise<void> {
  const { preset, batch } = sizesFor(device);
  const step = new TrainingStep({ train: presetOptions(preset), batch, device, precision: 'auto' });
  for (const patch of step.sizes) {
    for (let i = 0; i < GRAPH_AFTER; i++) await step.runWhole(patch);
    const reads = watchReads(device);
    const { wall } = await step.runWhole(patch);
    const count = reads.stop();
    emit({
      name: `update at ${patch.width} px`,
      status: count === 0 || device === 'cpu' ? 'ok' : 'failed',
      detail: device === 'cpu' ? 'a CPU is not waited for' : `${count} reads of results, none is wanted`,
      figures: { reads: count, wallMs: wall * 1000 },
    });
  }
  step.dispose();
}

/** Updates with and without CUDA graphs, whose losses and gradients are compared when they are captured. */
export async function graphs({ device, emit }: StageContext): Promise<void> {
  const { preset, batch, repeats } = sizesFor(device);
  const make = (withGraphs: boolean) =>
    new TrainingStep({ train: presetOptions(preset), batch, device, precision: 'auto', withGraphs });
  const [without, as] = [make(false), make(true)];
  for (const patch of as.sizes) {
    const seconds = { without: Number.POSITIVE_INFINITY, as: Number.POSITIVE_INFINITY };
    for (let i = 0; i < GRAPH_AFTER + repeats; i++) {
      for (const [name, step] of Object.entries({ without, as }) as ['without' | 'as', TrainingStep][]) {
        const { wall } = await step.runWhole(patch);
        if (i >= GRAPH_AFTER) seconds[name] = Math.min(seconds[name], wall);
      }
    }
    const ratio = seconds.without / seconds.as;
    const isGraph = torch.hasGraphs(device) && as.whyNoGraphs === null;
    emit({
      name: `passes as CUDA graphs at ${patch.width} px`,
      status: isGraph || device === 'cpu' ? 'ok' : 'failed',
      detail: isGraph
        ? `${(seconds.as * 1000).toFixed(1)} ms an update, ${(seconds.without * 1000).toFixed(1)} without (${ratio.toFixed(2)} ×)`
        : (as.whyNoGraphs ?? 'this libtorch or device has no graphs'),
      figures: { ms: seconds.as * 1000, msWithout: seconds.without * 1000, ratio },
    });
  }
  without.dispose();
  as.dispose();
}

/** Watches the methods that wait for a tensor's device. */
function watchReads(device: string): { stop(): number } {
  const prototype = torch.Tensor.prototype;
  const { item, copyToArray, toFloat32Array } = prototype;
  let count = 0;
  const see = (tensor: torch.Tensor): void => {
    if (tensor.device.startsWith(device)) count++;
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
      return count;
    },
  };
}
