/** The report of a tick: an event and a line of stats.jsonl, with the loss on held-out images. */
import * as torch from '@patch-diffusion/torch';
import { TorchRandom } from '../common/random-source.js';
import type { DataSet } from '../data/types.js';
import { denoisingLoss } from '../diffusion/losses.js';
import { makePatchBatch } from '../patches/batches.js';
import type { TickEvent, TrainEventListener } from './events.js';
import type { Session } from './session.js';

const HELD_OUT_BATCH = 64;
const HELD_OUT_SEED = 20_230_425;

/**
 * Reports what happened since the tick before.
 * @param heldOut whether to measure the loss on held-out images, where there are any
 */
export async function reportTick(
  session: Session,
  emit: TrainEventListener,
  { tick, tickStartNimg, heldOut }: { tick: number; tickStartNimg: number; heldOut: boolean },
): Promise<void> {
  const { state, stats } = session;
  const { device } = session.parts.resumable;
  const begin = performance.now();
  const held =
    heldOut && session.parts.heldOut ? await heldOutLoss(session, session.parts.heldOut) : undefined;

  const gpu = gpuMemory(device);
  // As in the official trainer, this tick's maintenance (the loss above included) is reported with the next tick.
  const secPerTick = (begin - session.tickStart) / 1000;
  const kimgInTick = (state.nimg - tickStartNimg) / 1000;
  const event: TickEvent = {
    type: 'tick',
    ...session.progress(),
    tick,
    loss: stats.get('Loss/loss').mean,
    lossPerPatch: stats.lossPerPatch(),
    heldOutLoss: held,
    lr: stats.get('Progress/lr').mean,
    imagesPerSec: session.imagesPerSec(),
    totalSec: session.totalSec(),
    secPerTick,
    secPerKimg: secPerTick / Math.max(kimgInTick, 1e-9),
    maintenanceSec: session.maintenanceSec,
    etaSec: session.etaSec(),
    rssBytes: process.memoryUsage.rss(),
    gpuBytes: gpu?.peakAllocatedBytes,
    nonFiniteGrads: session.nonFiniteSteps,
  };
  stats.add('Progress/tick', tick);
  stats.add('Progress/kimg', state.nimg / 1000);
  stats.add('Progress/step', state.step);
  if (held !== undefined) stats.add('Loss/held_out', held);
  stats.add('Timing/total_sec', event.totalSec);
  stats.add('Timing/sec_per_tick', secPerTick);
  stats.add('Timing/sec_per_kimg', event.secPerKimg);
  stats.add('Timing/maintenance_sec', session.maintenanceSec);
  stats.add('Timing/images_per_sec', event.imagesPerSec);
  stats.add('Resources/cpu_mem_gb', event.rssBytes / 2 ** 30);
  if (gpu) {
    stats.add('Resources/peak_gpu_mem_gb', gpu.peakAllocatedBytes / 2 ** 30);
    stats.add('Resources/gpu_mem_reserved_gb', gpu.reservedBytes / 2 ** 30);
  }
  session.tickStart = begin;
  session.maintenanceSec = 0;
  session.nonFiniteSteps = 0;
  emit(event);
  const { folder } = session.parts;
  await folder.appendStats(stats.take());
  await folder.update({ step: state.step, nimg: state.nimg });
}

/**
 * Mean denoising loss per element of the averaged weights over whole held-out images. Noise levels and noise have a
 * fixed seed of their own: figures can be compared, and measuring leaves the training's random stream alone.
 */
async function heldOutLoss({ state, parts }: Session, heldOut: DataSet): Promise<number> {
  const { device } = parts.resumable;
  const size = Math.min(parts.updates.batchGpu, HELD_OUT_BATCH);
  const random = new TorchRandom(device, new torch.Generator(device, HELD_OUT_SEED));
  const all = Array.from({ length: heldOut.length }, (_, index) => index);
  await heldOut.ready(all);
  let sum = 0;
  let count = 0;
  for (let start = 0; start < all.length; start += size) {
    torch.noGrad(() =>
      torch.scope(() => {
        const indices = all.slice(start, start + size);
        const batch = makePatchBatch(heldOut, indices, heldOut, { random, device });
        const loss = denoisingLoss(state.ema, batch, random, parts.step.loss);
        sum += loss.sum().item();
        count += loss.numel;
      }),
    );
    await new Promise(setImmediate);
  }
  return sum / count;
}

function gpuMemory(device: torch.Device): ReturnType<typeof torch.cudaMemory> {
  if (!device.startsWith('cuda')) return null;
  return torch.cudaMemory(Number(device.split(':')[1] ?? 0));
}
