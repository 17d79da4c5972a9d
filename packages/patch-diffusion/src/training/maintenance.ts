/** What happens between updates: statistics once per tick, sample sheets, snapshots, states. */
import { readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { toPixels } from '../diffusion/latents.js';
import { sampleImages } from '../diffusion/sample.js';
import type { EndEvent, TrainEventListener } from './events.js';
import { heldOutLoss } from './held-out.js';
import type { Session } from './session.js';
import { gridPng, type SheetShape } from './sheet.js';

/** A state is large; the newest ones are kept. */
const STATES_KEPT = 2;

/**
 * Does what is due.
 * @param ending why the run ends with this update, or null when it goes on
 */
export async function runMaintenance(
  session: Session,
  emit: TrainEventListener,
  ending: EndEvent['reason'] | null,
  signal?: AbortSignal,
): Promise<void> {
  const { options, state, counters, timing } = session;
  const isTick =
    state.step === 1 || ending !== null || state.nimg >= counters.tickStartNimg + options.tickKimg * 1000;
  const isSheetTime = options.sampleSec !== null && secondsSince(timing.lastSamplesAt) >= options.sampleSec;
  if (!isTick && !isSheetTime) return;

  const begin = performance.now();
  const due = (interval: number | null) =>
    isTick && interval !== null && counters.tick > 0 && counters.tick % interval === 0;
  if (isTick) await reportTick(session, emit);
  const isEnd = ending !== null;
  if (ending !== 'interrupted' && (isEnd || isSheetTime || due(options.sampleTicks)))
    await writeSamples(session, emit, signal);
  if (isEnd || due(options.snapshotTicks)) await saveSnapshot(session, emit);
  if (isTick) {
    counters.tick += 1;
    counters.tickStartNimg = state.nimg;
  }
  if (
    isEnd ||
    (isTick &&
      options.stateTicks !== null &&
      counters.tick > 1 &&
      (counters.tick - 1) % options.stateTicks === 0)
  ) {
    await saveState(session, emit);
  }
  timing.maintenanceSec += secondsSince(begin);
}

/** One progress report: an event and a line of stats.jsonl. */
async function reportTick(session: Session, emit: TrainEventListener): Promise<void> {
  const { options, state, counters, stats, timing, heldOut } = session;
  const begin = performance.now();
  const held = heldOut
    ? await heldOutLoss(state.ema, heldOut, {
        loss: session.step.loss,
        batch: Math.min(options.batch, 64),
        device: session.device,
      })
    : undefined;
  timing.maintenanceSec += secondsSince(begin);

  const secPerTick = secondsSince(timing.tickStart);
  const kimgInTick = (state.nimg - counters.tickStartNimg) / 1000;
  const event = {
    type: 'tick' as const,
    ...session.progress(),
    tick: counters.tick,
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
    nonFiniteGrads: session.nonFiniteSteps,
  };
  stats.add('Progress/tick', counters.tick);
  stats.add('Progress/kimg', state.nimg / 1000);
  stats.add('Progress/step', state.step);
  if (held !== undefined) stats.add('Loss/held_out', held);
  stats.add('Timing/total_sec', event.totalSec);
  stats.add('Timing/sec_per_tick', secPerTick);
  stats.add('Timing/sec_per_kimg', event.secPerKimg);
  stats.add('Timing/maintenance_sec', timing.maintenanceSec);
  stats.add('Timing/images_per_sec', event.imagesPerSec);
  stats.add('Resources/cpu_mem_gb', event.rssBytes / 2 ** 30);
  await session.folder.appendStats(stats.take());
  await session.folder.update({ step: state.step, nimg: state.nimg });
  timing.tickStart = performance.now();
  timing.maintenanceSec = 0;
  session.nonFiniteSteps = 0;
  emit(event);
}

/** Samples from the averaged weights with the same seeds every time, so that sheets can be compared. */
async function writeSamples(session: Session, emit: TrainEventListener, signal?: AbortSignal): Promise<void> {
  const { options, state, decoder, device } = session;
  const begin = performance.now();
  const seeds = Array.from({ length: options.samples }, (_, seed) => seed);
  const parts: Uint8Array[] = [];
  let shape: SheetShape = [0, 0, 0, 0];
  for (let start = 0; start < seeds.length; start += options.batch) {
    const batch = await sampleImages(state.ema, {
      seeds: seeds.slice(start, start + options.batch),
      numSteps: options.sampleSteps,
      sChurn: options.sampleChurn,
      device,
      // A signal ends the run after the next update; a sheet that is being drawn is given up.
      onStep: () => new Promise(setImmediate),
      ...(signal ? { signal } : {}),
    })
      .then((samples) => toPixels(samples, decoder, signal))
      .catch((error: unknown) => {
        if (signal?.aborted) return null;
        throw error;
      });
    if (!batch) return;
    parts.push(batch.pixels);
    const [, ...size] = batch.shape;
    shape = [seeds.length, ...size];
  }
  const pixels = Buffer.concat(parts);
  const name = `fakes-${String(Math.floor(state.nimg / 1000)).padStart(6, '0')}.png`;
  const file = await session.folder.writeFile('samples', name, await gridPng(pixels, shape));
  session.timing.lastSamplesAt = performance.now();
  emit({ type: 'samples', ...session.progress(), file, pixels, shape, sec: secondsSince(begin) });
}

async function saveSnapshot(session: Session, emit: TrainEventListener): Promise<void> {
  const file = await session.saveSnapshot();
  emit({ type: 'snapshot', ...session.progress(), file, bytes: (await stat(file)).size });
}

async function saveState(session: Session, emit: TrainEventListener): Promise<void> {
  const file = await session.saveState();
  emit({ type: 'state', ...session.progress(), file, bytes: (await stat(file)).size });
  const folder = dirname(file);
  const states = (await readdir(folder))
    .filter((name) => /^training-state-\d+\.safetensors$/.test(name))
    .sort();
  for (const name of states.slice(0, -STATES_KEPT)) await rm(join(folder, name), { force: true });
}

function secondsSince(time: number): number {
  return (performance.now() - time) / 1000;
}
