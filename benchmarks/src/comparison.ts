/** Our step against the peer's: same weights, same inputs, same loss first; then their steps in turn. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { stepGflopPerImage } from './flops.js';
import type { BenchOptions } from './options.js';
import { findPython, NoPeer, Peer, type PeerTimes } from './peer.js';
import { median, type Spread, spread } from './timing.js';
import { type StepTimes, TrainingStep } from './training-step.js';

/** Medians over the repeats at one patch size. */
export interface SizeResult {
  readonly patch: number;
  readonly images: number;
  readonly gflopPerImage: number;
  readonly imagesPerSec: number;
  readonly gflopPerSec: number;
  readonly seconds: StepTimes;
  readonly peer: null | {
    readonly imagesPerSec: number;
    readonly seconds: Omit<StepTimes, 'batch'>;
    /** Our images/s over the peer's, from neighbouring steps. */
    readonly ratio: Spread;
    /** The same by processor time, which other work on the machine disturbs less. */
    readonly cpuRatio: Spread;
    readonly lossDifference: number;
    readonly gradientDifference: number;
  };
}

type LossDifference = { lossDifference: number; gradientDifference: number };

export interface Comparison {
  readonly parameters: number;
  readonly sizes: SizeResult[];
  /** Why there is no peer, or null. */
  readonly notice: string | null;
  /** Microseconds of one small operator call in PyTorch. */
  readonly peerCallUs: number | null;
}

/** Relative difference of two float32 implementations of one loss that only rounding explains. */
const TOLERANCE = 1e-4;

export async function compareSteps(bench: BenchOptions, log: (line: string) => void): Promise<Comparison> {
  const ours = new TrainingStep(bench);
  const folder = await mkdtemp(join(tmpdir(), 'patch-diffusion-bench-'));
  let peer: Peer | null = null;
  let notice: string | null = null;
  try {
    try {
      peer = await startPeer(bench, ours, folder);
    } catch (error) {
      if (!(error instanceof NoPeer)) throw error;
      notice = error.message;
    }
    const file = join(folder, 'batch.safetensors');
    // All losses first: training steps, whose draws differ, part the weights.
    const differences: (LossDifference | null)[] = [];
    for (const patch of ours.sizes) differences.push(peer && (await compareLoss(ours, patch, peer, file)));
    const sizes: SizeResult[] = [];
    for (const [i, patch] of ours.sizes.entries()) {
      log(`patch ${patch.height}…`);
      sizes.push(await compareSize(bench, ours, patch, peer, differences[i] ?? null, file));
    }
    const peerCallUs = peer ? median(await repeat(5, async () => (await peer!.calls(5000)).call_us)) : null;
    return { parameters: ours.denoiser.numParams(), sizes, notice, peerCallUs };
  } finally {
    peer?.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function startPeer(bench: BenchOptions, ours: TrainingStep, folder: string): Promise<Peer> {
  if (!bench.peer) throw new NoPeer('left out (--no-peer)');
  const { spec } = ours.denoiser;
  const { network } = spec;
  if (network.type !== 'SongUNet' || network.embeddingType !== 'positional') {
    throw new NoPeer(`the peer has DDPM++ only, not the network of ${bench.preset}`);
  }
  const weights = join(folder, 'weights.safetensors');
  await writeSafetensors(weights, ours.denoiser.stateDict());
  const peer = await Peer.start(findPython(), {
    config: {
      img_resolution: network.imgResolution,
      in_channels: network.inChannels,
      out_channels: network.outChannels,
      model_channels: network.modelChannels,
      channel_mult: network.channelMult,
      num_blocks: network.numBlocks,
      attn_resolutions: network.attnResolutions,
      dropout: network.dropout,
    },
    weights,
    threads: torch.getNumThreads(),
    device: bench.device,
    channels_last: false,
    adam: 'fused',
  });
  if (peer.parameters !== ours.denoiser.numParams()) {
    throw new Error(
      `the peer's network has ${peer.parameters} parameters, ours ${ours.denoiser.numParams()}`,
    );
  }
  return peer;
}

async function compareSize(
  bench: BenchOptions,
  ours: TrainingStep,
  patch: TrainingStep['sizes'][number],
  peer: Peer | null,
  difference: LossDifference | null,
  file: string,
): Promise<SizeResult> {
  const images = ours.count(patch);
  if (peer) await writeStepBatch(images, patch, file);

  await ours.run(patch); // warm-up: buffers, kernels
  await peer?.steps(file, 1);
  const steps: StepTimes[] = [];
  const peerSteps: PeerTimes = { total: [], forward: [], backward: [], update: [], cpu: [] };
  for (let i = 0; i < bench.repeats; i++) {
    steps.push(await ours.run(patch));
    if (!peer) continue;
    const times = await peer.steps(file, 1);
    for (const key of ['total', 'forward', 'backward', 'update', 'cpu'] as const)
      peerSteps[key].push(...times[key]);
  }

  const seconds = Object.fromEntries(
    (['total', 'batch', 'forward', 'backward', 'update', 'cpu'] as const).map((key) => [
      key,
      median(steps.map((s) => s[key])),
    ]),
  ) as unknown as StepTimes;
  const gflopPerImage = stepGflopPerImage(ours.denoiser, patch, bench.device);
  return {
    ...{ patch: patch.height, images, gflopPerImage, seconds },
    imagesPerSec: images / seconds.total,
    gflopPerSec: (gflopPerImage * images) / seconds.total,
    peer: difference && {
      imagesPerSec: images / median(peerSteps.total),
      seconds: {
        total: median(peerSteps.total),
        forward: median(peerSteps.forward),
        backward: median(peerSteps.backward),
        update: median(peerSteps.update),
        cpu: median(peerSteps.cpu),
      },
      ratio: spread(peerSteps.total.map((theirs, i) => theirs / steps[i]!.total)),
      cpuRatio: spread(peerSteps.cpu.map((theirs, i) => theirs / steps[i]!.cpu)),
      ...difference,
    },
  };
}

/** @throws Error if the two networks do not compute the same. */
async function compareLoss(
  ours: TrainingStep,
  patch: { height: number; width: number },
  peer: Peer,
  file: string,
) {
  const probe = ours.probe(patch as TrainingStep['sizes'][number]);
  try {
    await writeSafetensors(file, Object.entries(probe));
    const [mine, theirs] = [ours.loss(probe), await peer.loss(file)];
    const relative = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);
    const lossDifference = relative(mine.loss, theirs.loss);
    const gradientDifference = relative(mine.gradNorm, theirs.grad_norm);
    // The negation also catches NaN.
    if (!(lossDifference < TOLERANCE && gradientDifference < TOLERANCE * 10)) {
      const values = `loss ${mine.loss} and ${theirs.loss}, gradient norm ${mine.gradNorm} and ${theirs.grad_norm}`;
      throw new Error(`ours and the peer differ at patch ${patch.height}: ${values}`);
    }
    return { lossDifference, gradientDifference };
  } finally {
    for (const tensor of Object.values(probe) as torch.Tensor[]) tensor.dispose();
  }
}

/** The peer's training inputs: patches that were cut and converted beforehand (ours does that within its step). */
async function writeStepBatch(
  images: number,
  patch: { height: number; width: number },
  file: string,
): Promise<void> {
  const { height, width } = patch;
  const [pixels, coords] = torch.scope(() => [
    torch.rand([images, 3, height, width]).mul(2).sub(1),
    torch.rand([images, 2, height, width]).mul(2).sub(1),
  ]);
  await writeSafetensors(file, [
    ['images', pixels!],
    ['coords', coords!],
  ]);
  pixels!.dispose();
  coords!.dispose();
}

async function repeat<T>(times: number, fn: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < times; i++) results.push(await fn());
  return results;
}
