/** What an ONNX file says of its network: all that a sampler needs. Plain JSON under one key of the file's metadata. */

import { DEFAULT_SIGMA_DATA } from '../../diffusion/noise-levels.js';
import type { PrecondSpec } from '../../diffusion/precond-spec.js';
import { type Denoiser, IddpmDenoiser } from '../../diffusion/preconditioning.js';
import { EDM_DEFAULTS } from '../../diffusion/samplers/edm.js';
import type { RecordedSampling } from '../../diffusion/samplers/index.js';
import type { LatentDecoder } from '../../latents/latents.js';
import type { Extent } from '../../patches/extent.js';
import { type DatasetRecord, recordedSampling, type SnapshotInfo } from '../../run/snapshot-info.js';
import type { OnnxPrecision } from './options.js';

/** Version of the layout of both descriptions. */
const ONNX_VERSION = 1;

/** JSON has no infinity: a null is no limit. */
type Limit = number | null;

export interface OnnxDenoiserInfo {
  readonly kind: 'onnx-denoiser';
  readonly formatVersion: number;
  readonly precision: OnnxPrecision;
  readonly precond: PrecondSpec;
  /** Extent of the training images, which coordinates are scaled by. */
  readonly image: Extent;
  readonly channels: number;
  /** Both sides of an input must be divided by this. */
  readonly sizeMultiple: number;
  readonly hasPositions: boolean;
  /** Length of the class labels; 0 for none. */
  readonly labelDim: number;
  /** Noise levels that the denoiser handles. */
  readonly sigmaMin: number;
  readonly sigmaMax: Limit;
  /** Standard deviation of the data that EDM's preconditioning assumes; null for others. */
  readonly sigmaData: number | null;
  /** The only noise levels that the network knows, descending, where it does not know all (iDDPM). */
  readonly noiseLevels: readonly number[] | null;
  readonly sampler: Readonly<Record<keyof typeof EDM_DEFAULTS, Limit>> & RecordedSampling;
  readonly dataset: DatasetRecord;
  /** Side of an image divided by that of its latent, where the network was trained on latents. */
  readonly latents: { readonly downFactor: number } | null;
  readonly nimg: number;
}

export interface OnnxDecoderInfo {
  readonly kind: 'onnx-decoder';
  readonly formatVersion: number;
  readonly precision: OnnxPrecision;
  readonly latentChannels: number;
  readonly channels: number;
  readonly downFactor: number;
}

export function denoiserInfo(
  denoiser: Denoiser,
  { precond, train, dataset, latents, nimg }: SnapshotInfo,
  precision: OnnxPrecision,
): OnnxDenoiserInfo {
  const isEdm = precond.type === 'edm' || precond.type === 'pedm';
  return {
    ...{ kind: 'onnx-denoiser', formatVersion: ONNX_VERSION, precision, precond },
    ...{
      image: denoiser.imageExtent,
      channels: denoiser.dataChannels,
      sizeMultiple: denoiser.model.sizeFactor,
    },
    ...{ hasPositions: denoiser.hasPositions, labelDim: denoiser.labelDim },
    sigmaMin: denoiser.sigmaMin,
    sigmaMax: limit(denoiser.sigmaMax),
    sigmaData: isEdm ? (precond.sigmaData ?? DEFAULT_SIGMA_DATA) : null,
    noiseLevels: denoiser instanceof IddpmDenoiser ? Array.from(denoiser.u.toFloat32Array()) : null,
    sampler: {
      ...{ ...EDM_DEFAULTS, sMax: limit(EDM_DEFAULTS.sMax) },
      ...recordedSampling({ train }),
    },
    dataset,
    latents: latents ? { downFactor: latents.downFactor } : null,
    nimg,
  };
}

export function decoderInfo(
  { module, downFactor }: LatentDecoder,
  precision: OnnxPrecision,
): OnnxDecoderInfo {
  const { latentChannels, outChannels: channels } = module.config;
  return {
    ...{ kind: 'onnx-decoder', formatVersion: ONNX_VERSION, precision },
    ...{ latentChannels, channels, downFactor },
  };
}

const limit = (value: number): Limit => (Number.isFinite(value) ? value : null);
