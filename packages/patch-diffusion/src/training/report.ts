/** The report of a tick: an event and a line of stats.jsonl. */
import * as torch from '@patch-diffusion/torch';
import type { TickEvent, TrainEventListener } from './events.js';
import { heldOutLoss } from './held-out.js';
import type { Session } from './session.js';

const HELD_OUT_BATCH = 64;

/**
 * Reports what happened since the tick before.
 * @param heldOut whether to measure the loss on held-out images, where there are any
 */
export async function reportTick(
  session: Session,
  emit: TrainEventListener,
  { tick, tickStartNimg, heldOut }: { tick: number; tickStartNimg: number; heldOut: boolean },
): Promise<void> {
  const { state, stats, timing, device } = session;
  const begin = performance.now();
  const held =
    heldOut && session.heldOut
      ? await heldOutLoss(state.ema, session.heldOut, {
          loss: session.step.loss,
          batch: Math.min(session.rounds.batchGpu, HELD_OUT_BATCH),
          device,
        })
      : undefined;

  const gpu = gpuMemory(device);
  // This tick's maintenance, of which the loss above is a part, counts for the next line, as officially.
  const secPerTick = (begin - timing.tickStart) / 1000;
  const kimgInTick = (state.nimg - tickStartNimg) / 1000;
  const event: TickEvent = {
    type: 'tick',
    ...session.progress(),
    tick,
    loss: stats.get('Loss/loss').mean,
    lossPerPatch: stats.lossPerPatch(),
    ...(held === undefined ? {} : { heldOutLoss: held }),
    lr: stats.get('Progress/lr').mean,
    imagesPerSec: session.imagesPerSec(),
    totalSec: session.totalSec(),
    secPerTick,
    secPerKimg: secPerTick / Math.max(kimgInTick, 1e-9),
    maintenanceSec: timing.maintenanceSec,
    etaSec: session.etaSec(),
    rssBytes: process.memoryUsage.rss(),
    ...(gpu === null ? {} : { gpuBytes: gpu.peakAllocatedBytes }),
    nonFiniteGrads: session.nonFiniteSteps,
  };
  stats.add('Progress/tick', tick);
  stats.add('Progress/kimg', state.nimg / 1000);
  stats.add('Progress/step', state.step);
  if (held !== undefined) stats.add('Loss/held_out', held);
  stats.add('Timing/total_sec', event.totalSec);
  stats.add('Timing/sec_per_tick', secPerTick);
  stats.add('Timing/sec_per_kimg', event.secPerKimg);
  stats.add('Timing/maintenance_sec', timing.maintenanceSec);
  stats.add('Timing/images_per_sec', event.imagesPerSec);
  stats.add('Resources/cpu_mem_gb', event.rssBytes / 2 ** 30);
  if (gpu) {
    stats.add('Resources/peak_gpu_mem_gb', gpu.peakAllocatedBytes / 2 ** 30);
    stats.add('Resources/gpu_mem_reserved_gb', gpu.reservedBytes / 2 ** 30);
  }
  timing.tickStart = begin;
  timing.maintenanceSec = 0;
  session.nonFiniteSteps = 0;
  emit(event);
  await session.folder.appendStats(stats.take());
  await session.folder.update({ step: state.step, nimg: state.nimg });
}

function gpuMemory(device: torch.Device): ReturnType<typeof torch.cudaMemory> {
  if (!device.startsWith('cuda')) return null;
  return torch.cudaMemory(Number(device.split(':')[1] ?? 0));
}
