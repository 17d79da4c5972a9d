/** Who takes part in a comparison of training steps: ours in one or two precisions, and PyTorch's settings. */
import { join } from 'node:path';
import type { PatchSize } from 'patch-diffusion/method';
import type { BenchOptions } from './command-line.js';
import { checkPeerLoss, type LossProbe } from './equal-loss.js';
import { OFFICIAL_SETTINGS, Peer, type PeerNetwork, type PeerSettings, settingsText } from './peer.js';
import { log } from './progress.js';
import { mixRate, type Role } from './ratios.js';
import { clockOf, type StepSeconds } from './timing.js';
import type { StepTimes, TrainingStep } from './training-step.js';

/** One side of the comparison. */
export interface Side {
  readonly name: string;
  readonly role: Role;
  /** Type of the activations. */
  readonly dtype: TrainingStep['dtype'];
  /** One training step at a patch size. */
  step(patch: PatchSize): Promise<StepSeconds | StepTimes>;
}

/** A side with a process behind it. */
export interface PeerSide extends Side {
  readonly peer: Peer;
}

/** What peers need to be started, and what they are checked with. */
export interface PeerStart {
  readonly python: string;
  readonly network: PeerNetwork;
  readonly parameters: number;
  readonly sizes: readonly PatchSize[];
  readonly probes: readonly LossProbe[];
  readonly folder: string;
}

/** Time for a compiled peer to compile and run its first steps, after which it is left out. */
const COMPILE_LIMIT_SEC = 240;

export function patchFile(folder: string, patch: PatchSize): string {
  return join(folder, `patches-${patch.width}.safetensors`);
}

/** On a CPU, with the parts of its steps; telling them apart would make a GPU wait. */
export function ourSide(role: 'ours' | 'ours-fp32', step: TrainingStep, device: string): Side {
  const names = { float32: 'fp32', bfloat16: 'bf16', float16: 'fp16' };
  return {
    ...{ name: `ours ${names[step.dtype]}`, role, dtype: step.dtype },
    step: (patch) => (device === 'cpu' ? step.run(patch) : step.runWhole(patch)),
  };
}

/** The peers with the settings given. @throws Error if one of them does not start, compile or compute the same */
export async function startChosenPeers(
  start: PeerStart,
  chosen: readonly PeerSettings[],
): Promise<PeerSide[]> {
  const sides: PeerSide[] = [];
  try {
    for (const settings of chosen) {
      const role = settings === OFFICIAL_SETTINGS ? 'official' : 'candidate';
      sides.push(
        await (settings.compile ? startCompiled(start, settings) : startSide(start, settings, role)),
      );
    }
    return sides;
  } catch (error) {
    for (const { peer } of sides) peer.close();
    throw error;
  }
}

/**
 * The peer with the official settings, and the candidates for the best ones: of the eager settings, the quicker layout of
 * the quicker precision by a short trial; and the same compiled.
 */
export async function startPeers(start: PeerStart, options: BenchOptions): Promise<PeerSide[]> {
  const sides: PeerSide[] = [];
  try {
    sides.push(await startSide(start, OFFICIAL_SETTINGS, 'official'));
    const eager = await bestEager(start, options);
    sides.push(eager);
    if (options.quick) return sides;
    try {
      sides.push(await startCompiled(start, { ...eager.peer.settings, compile: true }));
    } catch (error) {
      log(`  left out of the comparison: ${(error as Error).message.split('\n').at(-1)}`);
    }
    return sides;
  } catch (error) {
    for (const { peer } of sides) peer.close();
    throw error;
  }
}

/** Tries the eager settings one after the other and keeps the quickest. */
async function bestEager(start: PeerStart, { batch, device, quick }: BenchOptions): Promise<PeerSide> {
  let best: { side: PeerSide; rate: number } | null = null;
  const precisions = quick ? [true] : [true, false];
  const clock = clockOf(device);
  for (const bf16 of precisions) {
    for (const channels_last of [true, false]) {
      const settings = { channels_last, bf16, fused: true, compile: false };
      const side = await startSide(start, settings, 'candidate');
      const seconds: number[] = [];
      for (const patch of start.sizes) {
        await side.step(patch);
        seconds.push((await side.step(patch))[clock]);
      }
      const rate = mixRate(start.sizes, batch, seconds);
      log(
        `  ${side.name}: ${rate.toFixed(2)} images/s (${clock === 'cpu' ? 'processor' : 'wall'} time) in a first trial`,
      );
      if (best && best.rate >= rate) side.peer.close();
      else {
        best?.side.peer.close();
        best = { side, rate };
      }
    }
  }
  return best!.side;
}

/** The compiled peer with its steps compiled. @throws Error where this cannot be done here, or not in time */
async function startCompiled(start: PeerStart, settings: PeerSettings): Promise<PeerSide> {
  log(`  ${settingsText(settings)}: compiling (up to ${COMPILE_LIMIT_SEC} s) …`);
  let peer: Peer | null = null;
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    peer?.close();
  }, COMPILE_LIMIT_SEC * 1000);
  try {
    peer = await Peer.start(start.python, start.network, settings, start.parameters);
    await checkPeerLoss(peer, start.probes);
    for (const patch of start.sizes) await peer.step(patchFile(start.folder, patch));
    return peerSide(peer, start.folder, 'candidate');
  } catch (error) {
    peer?.close();
    throw isLate ? new Error(`not compiled within ${COMPILE_LIMIT_SEC} s`) : error;
  } finally {
    clearTimeout(timer);
  }
}

async function startSide(
  start: PeerStart,
  settings: PeerSettings,
  role: 'official' | 'candidate',
): Promise<PeerSide> {
  const peer = await Peer.start(start.python, start.network, settings, start.parameters);
  try {
    await checkPeerLoss(peer, start.probes);
  } catch (error) {
    peer.close();
    throw error;
  }
  return peerSide(peer, start.folder, role);
}

function peerSide(peer: Peer, folder: string, role: Side['role']): PeerSide {
  const dtype = peer.settings.bf16 ? 'bfloat16' : 'float32';
  return {
    name: settingsText(peer.settings),
    role,
    dtype,
    peer,
    step: (patch) => peer.step(patchFile(folder, patch)),
  };
}
