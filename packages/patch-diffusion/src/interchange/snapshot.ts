/**
 * Network snapshots: the averaged weights with everything that sampling needs, in one safetensors file. The
 * description travels as JSON in the file's metadata under the key `patch_diffusion`.
 */
import * as torch from '@patch-diffusion/torch';
import { type SafetensorsFile, writeSafetensors } from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { TrainOptions } from '../config/train-options.js';
import type { LatentInfo } from '../data/types.js';
import { placement } from '../diffusion/device.js';
import type { LossSpec } from '../diffusion/losses.js';
import { createDenoiser, type Denoiser, type PrecondSpec } from '../diffusion/preconditioning.js';
import { checkFormatVersion, METADATA_KEY, openTensorFile, readMetadata } from '../formats/tensor-file.js';

const FORMAT_VERSION = 1;

/** What a snapshot says of itself. */
export interface SnapshotInfo {
  readonly kind: 'snapshot';
  readonly formatVersion: number;
  readonly precond: PrecondSpec;
  readonly loss: LossSpec;
  /** Options of the training run; null for a network that another program trained. */
  readonly train: TrainOptions | null;
  readonly dataset: { readonly name: string; readonly classNames: readonly string[] | null };
  /** How the latents become images, where the network was trained on latents. */
  readonly latents?: LatentInfo | null;
  /** Images trained on, as the paper counts them. */
  readonly nimg: number;
  /** Optimiser updates. */
  readonly step: number;
}

/** Fields that a reader relies on; the specs themselves are checked by building the network. */
const snapshotSchema = z.looseObject({
  kind: z.literal('snapshot'),
  formatVersion: z.number(),
  precond: z.looseObject({ type: z.string(), network: z.looseObject({ type: z.string() }) }),
  dataset: z.looseObject({ name: z.string() }),
  nimg: z.number(),
  step: z.number(),
});

/** Writes the weights of `denoiser` and their description; the file appears whole or not at all. */
export async function writeSnapshot(
  file: string,
  denoiser: Denoiser,
  info: Omit<SnapshotInfo, 'kind' | 'formatVersion' | 'precond'>,
): Promise<void> {
  const full: SnapshotInfo = {
    kind: 'snapshot',
    formatVersion: FORMAT_VERSION,
    precond: denoiser.spec,
    ...info,
  };
  await writeSafetensors(file, denoiser.stateDict(), { format: 'pt', [METADATA_KEY]: JSON.stringify(full) });
}

/**
 * Reads the description of a snapshot without its weights.
 * @throws UserError when the file is truncated, or is something else
 */
export async function readSnapshotInfo(file: string): Promise<SnapshotInfo> {
  const reader = await openTensorFile(file);
  try {
    return parseInfo(reader, file);
  } finally {
    reader.close();
  }
}

/**
 * Loads a snapshot for sampling: in evaluation mode, without gradients. The caller disposes the denoiser.
 * @throws UserError when the file is truncated, is something else, or lacks tensors
 */
export async function loadSnapshot(
  file: string,
  device: torch.Device = 'cpu',
): Promise<{ denoiser: Denoiser; info: SnapshotInfo }> {
  const reader = await openTensorFile(file);
  try {
    const info = parseInfo(reader, file);
    const denoiser = createDenoiser(info.precond);
    torch.scope(() => {
      const tensors = new Map(reader.names.map((name) => [name, reader.tensor(name)]));
      try {
        denoiser.loadStateDict(tensors);
      } catch (cause) {
        throw new UserError('SNAPSHOT_MISMATCH', `${file}: ${(cause as Error).message}`, { cause });
      }
    });
    denoiser.requiresGrad(false).eval();
    return { denoiser: denoiser.to(placement(device)), info };
  } finally {
    reader.close();
  }
}

function parseInfo(reader: SafetensorsFile, file: string): SnapshotInfo {
  const info = readMetadata(reader, file);
  const parsed = snapshotSchema.safeParse(info);
  checkFormatVersion(info, FORMAT_VERSION, file);
  if (parsed.success) return info as SnapshotInfo;
  const kind = (info as { kind?: unknown }).kind;
  const what = kind === 'training-state' ? 'is a training state' : 'is not a snapshot of this program';
  throw new UserError(
    'NOT_A_SNAPSHOT',
    `${file} ${what}; name a file from a run's snapshots/ folder, or the run folder`,
  );
}
