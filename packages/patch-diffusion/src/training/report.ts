/** The report of a tick: an event and a line of stats.jsonl, with the loss on held-out images. */
import * as torch from '@patch-diffusion/torch';
import type { TickEvent, TrainEventListener } from './events.js';
import { heldOutLoss } from './held-out-loss.js';
import type { Session } from './session.js';

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
  const { heldOut: images, step, updates } = session.parts;
  const held =
    heldOut && images
      ? await heldOutLoss(state.ema, images, { device, batch: updates.batchGpu, loss: step.loss })
      : undefined;

  const gpu = gpuMemory(device);
  // As in the official trainer, this tick's maintenance (the loss above included) is reported with the next tick.
  const secPerTick = (begin - session.tickStart) / 1000;
  const kimgInTick = (state.nimg - tickStartNimg) / 1000;
  const event: Omit<TickEvent, 'stats'> = {
    type: 'tick',
    ...session.progress(),
    ...session.clock.progress,
    tick,
    loss: stats.get('Loss/loss').mean,
    lossPerPatch: stats.lossPerPatch(),
    heldOutLoss: held,
    lr: stats.get('Progress/lr').mean,
    imagesPerSec: session.imagesPerSec(),
    secPerTick,
    secPerKimg: secPerTick / Math.max(kimgInTick, 1e-9),
    maintenanceSec: session.maintenanceSec,
    etaSec: session.etaSec(),
    rssBytes: process.memoryUsage.rss(),
    gpuBytes: gpu?.peakAllocatedBytes,
    nonFiniteGrads: session.nonFiniteSteps,
    noiseLevels: session.levels.take(),
  };
  stats.add('Progress/tick', tick);
  stats.add('Progress/kimg', state.nimg / 1000);
  stats.add('Progress/step', state.step);
  if (held !== undefined) stats.add('Loss/held_out', held);
  stats.add('Timing/total_sec', event.totalSec);
  stats.add('Timing/train_cpu_sec', event.trainCpuSec);
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
  const line = stats.take();
  emit({ ...event, stats: line });
  const folder = session.parts.folder!;
  await folder.appendStats(line);
  await folder.update({ step: state.step, nimg: state.nimg });
}

function gpuMemory(device: torch.Device): ReturnType<typeof torch.cudaMemory> {
  if (!device.startsWith('cuda')) return null;
  return torch.cudaMemory(Number(device.split(':')[1] ?? 0));
}
