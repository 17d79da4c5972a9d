/** Exported models with random weights, and their snapshots. */
import { dirname, join } from 'node:path';
import type { Denoiser } from '../../../patch-diffusion/src/diffusion/preconditioning.js';
import { exportSnapshot } from '../../../patch-diffusion/src/interchange/export.js';
import { writeSnapshot } from '../../../patch-diffusion/src/interchange/snapshot.js';
import { autoencoderHash } from '../../../patch-diffusion/src/latents/autoencoder-folder.js';
import type { SnapshotInfo } from '../../../patch-diffusion/src/run/snapshot-info.js';
import { writeTinyAutoencoder } from '../../../patch-diffusion/test/helpers/tiny-autoencoder.js';
import { randomDenoiser, tinyDenoiser } from '../../../patch-diffusion/test/helpers/tiny-denoiser.js';

interface TinyModel {
  readonly snapshot: string;
  readonly onnx: string;
}

const shape = {
  imgResolution: 8,
  inChannels: 3,
  outChannels: 3,
  modelChannels: 8,
  channelMult: [1, 2],
  numBlocks: 1,
};

/** A network of 8×8 pixels with coordinates and three classes. @param path without an ending */
export async function writeTinyModel(path: string): Promise<TinyModel> {
  using denoiser = tinyDenoiser(1, 3);
  const dataset = { name: 'shapes', classNames: ['round', 'square', 'other'] };
  return await write(path, denoiser, { dataset });
}

/** One that knows ten noise levels only. */
export async function writeIddpmModel(path: string): Promise<TinyModel> {
  const network = { type: 'DhariwalUNet', ...shape, outChannels: 6, attnResolutions: [4] } as const;
  using denoiser = randomDenoiser(2, { type: 'iddpm', network, M: 100 });
  return await write(path, denoiser, {});
}

/** One for latents; its decoder makes 32×32 pixels of 8×8. */
export async function writeLatentModel(path: string): Promise<TinyModel & { readonly decoder: string }> {
  const autoencoder = await writeTinyAutoencoder(join(dirname(path), 'vae'));
  const network = {
    type: 'SongUNet',
    ...shape,
    inChannels: 6,
    outChannels: 4,
    attnResolutions: [4],
  } as const;
  using denoiser = randomDenoiser(3, { type: 'pedm', network });
  const source = { path: autoencoder, sha256: await autoencoderHash(autoencoder) };
  const files = await write(path, denoiser, {
    latents: { autoencoder: source, scale: 0.18, shift: 0.1, downFactor: 4 },
  });
  return { ...files, decoder: `${path}-decoder.onnx` };
}

async function write(path: string, denoiser: Denoiser, more: Partial<SnapshotInfo>): Promise<TinyModel> {
  const [snapshot, onnx] = [`${path}.safetensors`, `${path}.onnx`];
  const dataset = { name: 'noise', classNames: null };
  await writeSnapshot(snapshot, denoiser, {
    loss: { type: 'edm' },
    train: null,
    dataset,
    nimg: 0,
    step: 0,
    ...more,
  });
  await exportSnapshot({ network: snapshot, format: 'onnx', out: onnx });
  return { snapshot, onnx };
}
