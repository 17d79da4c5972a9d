/** Network snapshots: the averaged weights with everything that sampling needs, in one safetensors file. */
import { type Device, writeSafetensors } from '@patch-diffusion/torch';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { checkContents, METADATA_KEY } from '../formats/file-description.js';
import { openTensorFile } from '../formats/tensor-file.js';
import { SNAPSHOT_VERSION, type SnapshotInfo, snapshotInfo } from '../run/snapshot-info.js';
import { buildDenoiser, weightsOf } from './weights.js';

/** Writes the weights of `denoiser` and their description; the file appears whole or not at all. */
export async function writeSnapshot(
  file: string,
  denoiser: Denoiser,
  info: Omit<SnapshotInfo, 'kind' | 'formatVersion' | 'precond'>,
): Promise<void> {
  const full: SnapshotInfo = {
    kind: 'snapshot',
    formatVersion: SNAPSHOT_VERSION,
    precond: denoiser.spec,
    ...info,
  };
  const metadata = { format: 'pt', [METADATA_KEY]: JSON.stringify(full) };
  await writeSafetensors(file, denoiser.stateDict(), metadata, { checksum: true });
}

/**
 * Loads a snapshot for sampling: in evaluation mode, without gradients. The caller disposes the denoiser.
 * @throws UserError when the file is damaged, is something else, or lacks tensors
 * @example
 * ```ts
 * const file = await newestSnapshot('runs/00000-photos');
 * const { denoiser, info } = await loadSnapshot(file ?? '');
 * console.log(`${info.nimg} images`);
 * denoiser.dispose();
 * ```
 */
export async function loadSnapshot(
  file: string,
  device: Device = 'cpu',
): Promise<{ denoiser: Denoiser; info: SnapshotInfo }> {
  const reader = await openTensorFile(file);
  try {
    const info = snapshotInfo(reader, file);
    await checkContents(file);
    return { denoiser: buildDenoiser(info.precond, weightsOf(reader), file, device), info };
  } finally {
    await reader.close();
  }
}
