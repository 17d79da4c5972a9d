/** From the options of `generate` to the sampler and the guidance, checked against the networks. */

import type * as torch from '@patch-diffusion/torch';
import { usageError } from '../common/errors.js';
import { withoutSecrets } from '../common/secrets.js';
import { toExtent } from '../config/fields.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { prepareDenoiser } from '../diffusion/device.js';
import type { Guidance } from '../diffusion/guidance.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { chooseSampling, type SamplerOptions } from '../diffusion/samplers/index.js';
import { type LoadOptions, loadAnySnapshot } from '../interchange/load-snapshot.js';
import { LatentDecoder } from '../latents/latents.js';
import { extentName } from '../patches/extent.js';
import { earlySnapshot, snapshotAt } from '../run/choose-snapshot.js';
import { recordedSampling, type SnapshotInfo } from '../run/snapshot-info.js';

/** @throws UserError (exit code 2) for a window or a switch that the network does not have */
export function checkAgainstNetwork(
  options: GenerateOptions,
  denoiser: Denoiser,
  { latents }: SnapshotInfo,
): void {
  if (options.maskPos && denoiser.hasPositions) {
    throw usageError(
      'HAS_POSITIONS',
      '--mask-pos: this network was trained with coordinates and needs them; leave the option out',
    );
  }
  if (options.autoencoder !== null && !latents) {
    throw usageError('NO_LATENTS', '--autoencoder: this network was trained on pixels; leave the option out');
  }
  const downFactor = latents?.downFactor ?? 1;
  const factor = denoiser.model.sizeFactor * downFactor;
  const size = options.imageSize === null ? null : toExtent(options.imageSize);
  if (size && (size.width % factor || size.height % factor)) {
    const near = (side: number) => Math.max(1, Math.round(side / factor)) * factor;
    const remedy = extentName({ width: near(size.width), height: near(size.height) });
    throw usageError(
      'BAD_SIZE',
      `--image-size ${extentName(size)} cannot be halved by this network; use multiples of ${factor}, such as ${remedy}`,
    );
  }
  for (const [name, start] of Object.entries({ 'x-start': options.xStart, 'y-start': options.yStart })) {
    if (start % downFactor === 0) continue;
    throw usageError(
      'BAD_WINDOW',
      `--${name} ${start}: a latent pixel is ${downFactor} px wide; use a multiple of ${downFactor}`,
    );
  }
}

/** The sampler's options; what nobody gives stays at the sampler's own default. */
export function samplerSettings(
  options: GenerateOptions,
  info: SnapshotInfo,
): SamplerOptions & { readonly numSteps: number } {
  const { sigmaMin, sigmaMax, rho, sMin, sMax, sNoise } = options;
  const { solver, discretization, schedule, scaling, alpha } = options;
  const { sampler, steps: numSteps, sChurn } = options;
  return {
    ...chooseSampling({ sampler, numSteps, sChurn }, recordedSampling(info)),
    ...{ rho, sMin, sNoise },
    ...given({ sigmaMin, sigmaMax, sMax, solver, discretization, schedule, scaling, alpha }),
  };
}

/** The entries that are not null. */
function given<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  const entries = Object.entries(options).filter(([, value]) => value !== null);
  return Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> };
}

/** The part of the image plane that is drawn, in pixels of what the network sees. */
export function windowOf(options: GenerateOptions, denoiser: Denoiser, downFactor: number) {
  const size = options.imageSize === null ? null : toExtent(options.imageSize);
  const { height, width } = size
    ? { height: size.height / downFactor, width: size.width / downFactor }
    : denoiser.imageExtent;
  return { height, width, xStart: options.xStart / downFactor, yStart: options.yStart / downFactor };
}

/** What turns the samples into images; null for a network that was trained on pixels. The caller disposes it. */
export async function openDecoder(
  { autoencoder }: GenerateOptions,
  { latents, train }: SnapshotInfo,
  denoiser: Denoiser,
  device: torch.Device,
): Promise<LatentDecoder | null> {
  if (!latents) return null;
  const folder = autoencoder ?? train?.autoencoder ?? null;
  return LatentDecoder.open(latents, folder, denoiser.dataChannels, device);
}

/**
 * The network that guides: that of `--guide`, or an early snapshot of the run; null without one.
 * @param network the snapshot that is guided
 */
export async function guideFor({ guide, run }: GenerateOptions, network: string): Promise<string | null> {
  if (guide === null) return null;
  return guide === 'auto' && run !== null ? earlySnapshot(run, network) : snapshotAt(guide);
}

/**
 * The guidance, with the guiding network loaded; the caller disposes it.
 * @param from where the guiding network is, see {@link guideFor}
 * @param loading how networks are loaded
 * @throws UserError when the networks cannot be guided as asked
 */
export async function openGuidance(
  options: GenerateOptions,
  denoiser: Denoiser,
  from: string | null,
  loading: LoadOptions & { readonly device: torch.Device },
): Promise<Guidance | null> {
  const { cfg, cfgInterval: interval } = options;
  if (cfg === null) return null;
  if (from === null) {
    if (denoiser.labelDim) return { scale: cfg, interval };
    throw usageError(
      'NO_CLASSES',
      `--cfg ${cfg}: this network was trained without class labels; add --guide SNAPSHOT to guide by a worse network, or leave the option out`,
    );
  }
  const { denoiser: guide } = await loadAnySnapshot(from, loading);
  prepareDenoiser(guide, loading.device, options.precision);
  const reason = mismatch(denoiser, guide);
  if (!reason) return { scale: cfg, interval, guide };
  guide.dispose();
  throw usageError(
    'BAD_GUIDE',
    `--guide ${withoutSecrets(from)} ${reason}; use a snapshot that was trained on the same data`,
  );
}

/** Why a network cannot guide another. */
function mismatch(denoiser: Denoiser, guide: Denoiser): string | null {
  const size = ({ imageExtent: { height, width }, dataChannels }: Denoiser) =>
    `${width}×${height}×${dataChannels}`;
  if (size(denoiser) !== size(guide))
    return `makes images of ${size(guide)}, the network of ${size(denoiser)}`;
  if (guide.labelDim && guide.labelDim !== denoiser.labelDim) {
    return `has ${guide.labelDim} classes, the network ${denoiser.labelDim}`;
  }
  return null;
}

/** A warning for classifier-free guidance of a network that was never trained without a class; else null. */
export function guidanceWarning(guidance: Guidance | null, denoiser: Denoiser): string | null {
  if (!guidance || guidance.guide || guidance.scale === 1 || denoiser.spec.network.labelDropout) return null;
  return `--cfg ${guidance.scale}: this network was trained without --label-dropout, so it never learnt to draw without a class; expect odd images`;
}
