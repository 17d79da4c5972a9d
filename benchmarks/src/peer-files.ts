/** What the peer reads: our network, and stored inputs, as safetensors files in a temporary folder. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import type { Denoiser, PatchSize } from 'patch-diffusion/method';
import type { PeerNetwork } from './peer.js';

/** Runs `fn` with a folder that is removed afterwards. */
export async function withTemporaryFolder<T>(fn: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'patch-diffusion-bench-'));
  try {
    return await fn(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Writes our weights for the peer.
 * @throws Error for a network that the peer does not have
 */
export async function describeNetwork(
  denoiser: Denoiser,
  device: string,
  folder: string,
): Promise<PeerNetwork> {
  const { network } = denoiser.spec;
  if (network.type !== 'SongUNet' || network.embeddingType !== 'positional')
    throw new Error('the PyTorch peer has the DDPM++ network only, not that of this preset; add --no-peer');
  const weights = join(folder, 'weights.safetensors');
  await torch.writeSafetensors(weights, denoiser.stateDict());
  const config = {
    img_resolution: network.imgResolution,
    in_channels: network.inChannels,
    out_channels: network.outChannels,
    model_channels: network.modelChannels,
    channel_mult: network.channelMult,
    num_blocks: network.numBlocks,
    attn_resolutions: network.attnResolutions,
    dropout: network.dropout,
  };
  return { config, weights, threads: torch.getNumThreads(), device };
}

/** Patches that are cut and converted beforehand, for the peer's training steps (ours does that within its step). */
export async function writePatches(file: string, patch: PatchSize, images: number): Promise<void> {
  const { height, width } = patch;
  await writeInputs(file, () => ({
    images: torch.rand([images, 3, height, width]).mul(2).sub(1),
    coords: torch.rand([images, 2, height, width]).mul(2).sub(1),
  }));
}

/** Writes tensors that `make` makes. */
async function writeInputs(file: string, make: () => Record<string, torch.Tensor>): Promise<void> {
  const tensors = torch.scope(() => Object.entries(make()));
  try {
    await torch.writeSafetensors(file, tensors);
  } finally {
    for (const [, tensor] of tensors) tensor.dispose();
  }
}
