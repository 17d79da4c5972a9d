/** Training steps of one preset, ours and PyTorch's, in turn: the same weights and the same loss first, then the clock. */
import type { PresetName } from 'patch-diffusion';
import type { PatchSize } from 'patch-diffusion/method';
import { type BenchOptions, presetOptions } from './command-line.js';
import { checkOurLoss, disposeProbes, makeProbes } from './equal-loss.js';
import { stepGflopPerImage } from './flops.js';
import type { PeerSettings } from './peer.js';
import { describeNetwork, withTemporaryFolder, writePatches } from './peer-files.js';
import { log } from './progress.js';
import { mixRate, type SideRates } from './ratios.js';
import { ourSide, type PeerSide, patchFile, type Side, startChosenPeers, startPeers } from './sides.js';
import { clockOf, type StepSeconds } from './timing.js';
import { type StepTimes, TrainingStep } from './training-step.js';

/** Steps of one side. */
export interface SideSteps extends Pick<Side, 'name' | 'role' | 'dtype'> {
  /** By patch size, then by repeat. */
  readonly steps: readonly (readonly (StepSeconds | StepTimes)[])[];
}

export interface StepComparison {
  readonly preset: PresetName;
  readonly parameters: number;
  readonly batch: number;
  readonly sizes: readonly PatchSize[];
  /** Arithmetic of a step, forward and backward, per image: one entry per patch size. */
  readonly gflopPerImage: readonly number[];
  readonly sides: readonly SideSteps[];
  /** What the main figures are by: processor time, or on a GPU the clock on the wall. */
  readonly clock: keyof StepSeconds;
}

/**
 * @param python whose torch is the peer; null leaves PyTorch out
 * @param only settings of the peers; without them, the official ones and the best found by trial
 */
export async function compareSteps(
  preset: PresetName,
  options: BenchOptions,
  python: string | null,
  only?: readonly PeerSettings[],
): Promise<StepComparison> {
  const { batch, device, precision } = options;
  const settings = { train: presetOptions(preset), batch, device };
  const float32 = new TrainingStep({ ...settings, precision: 'fp32' });
  const chosen = new TrainingStep({ ...settings, precision });
  const isFloat32 = chosen.dtype === 'float32' && precision !== 'tf32';
  const { denoiser, sizes } = float32;
  const parameters = denoiser.numParams();
  log(`${preset}: ${(parameters / 1e6).toFixed(2)} M weights, batch ${batch}, ours ${chosen.dtype}`);
  return withTemporaryFolder(async (folder) => {
    const probes = await makeProbes(float32, folder);
    let peers: readonly PeerSide[] = [];
    try {
      checkOurLoss(chosen, probes);
      if (python !== null) {
        const network = await describeNetwork(denoiser, device, folder);
        for (const patch of sizes)
          await writePatches(patchFile(folder, patch), patch, batch * patch.multiplier);
        const start = { python, network, parameters, sizes, probes, folder };
        peers = await (only ? startChosenPeers(start, only) : startPeers(start, options));
      }
      const ours = [
        ourSide('ours', chosen, device),
        ...(isFloat32 ? [] : [ourSide('ours-fp32', float32, device)]),
      ];
      const sides = await inTurn([...ours, ...peers], sizes, { repeats: options.repeats, device });
      const gflopPerImage = sizes.map((patch) => stepGflopPerImage(denoiser, patch, device));
      return { preset, parameters, batch, sizes, gflopPerImage, sides, clock: clockOf(device) };
    } finally {
      for (const { peer } of peers) peer.close();
      disposeProbes(probes);
    }
  });
}

/** Rounds before those that are timed: on a GPU, until passes have become graphs. */
const WARM_UP = { cpu: 1, gpu: 5 } as const;

/** All sides step by turns, so that they see the same machine. */
async function inTurn(
  sides: readonly Side[],
  sizes: readonly PatchSize[],
  { repeats, device }: { readonly repeats: number; readonly device: string },
): Promise<SideSteps[]> {
  const warmUp = device === 'cpu' ? WARM_UP.cpu : WARM_UP.gpu;
  const results = sides.map(({ name, role, dtype }) => ({
    ...{ name, role, dtype },
    steps: sizes.map((): (StepSeconds | StepTimes)[] => []),
  }));
  for (let round = 1 - warmUp; round <= repeats; round++) {
    log(round < 1 ? '  warming up …' : `  round ${round} of ${repeats} …`);
    for (const [i, patch] of sizes.entries()) {
      for (const [k, side] of sides.entries()) {
        const seconds = await side.step(patch);
        if (round > 0) results[k].steps[i].push(seconds);
      }
    }
  }
  return results;
}

/** Images per second over the mix of patch sizes, by either clock. */
export function mixRates({ sizes, batch, sides }: StepComparison, clock: keyof StepSeconds): SideRates[] {
  return sides.map(({ name, role, steps }) => {
    const rates = steps[0].map((_, repeat) =>
      mixRate(
        sizes,
        batch,
        steps.map((repeats) => repeats[repeat][clock]),
      ),
    );
    return { name, role, rates };
  });
}
