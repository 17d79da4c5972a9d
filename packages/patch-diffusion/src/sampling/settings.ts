/** From the options of `generate` to the sampler and the guidance, checked against the networks. */
import type * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { prepareDenoiser } from '../diffusion/device.js';
import type { Guidance } from '../diffusion/guidance.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import type { SamplerOptions } from '../diffusion/samplers/index.js';
import { loadSnapshot } from '../interchange/snapshot.js';

const usage = (code: string, message: string) => new UserError(code, message, { exitCode: 2 });

/**
 * The sampler's options; what is null stays at the sampler's own default.
 * @param churn S_churn where the options do not say
 */
export function samplerSettings(options: GenerateOptions, churn: number): SamplerOptions {
  return {
    sampler: options.sampler,
    sigmaMin: options.sigmaMin ?? undefined,
    sigmaMax: options.sigmaMax ?? undefined,
    rho: options.rho,
    sChurn: options.sChurn ?? (options.sampler.startsWith('dpmpp') ? 0 : churn),
    sMin: options.sMin,
    sMax: options.sMax ?? Number.POSITIVE_INFINITY,
    sNoise: options.sNoise,
    solver: options.solver ?? undefined,
    discretization: options.discretization ?? undefined,
    schedule: options.schedule ?? undefined,
    scaling: options.scaling ?? undefined,
    alpha: options.alpha ?? undefined,
  };
}

/**
 * The guidance, with the guiding network loaded; the caller disposes it.
 * @throws UserError when the networks cannot be guided as asked
 */
export async function guidanceSettings(
  options: GenerateOptions,
  denoiser: Denoiser,
  device: torch.Device,
): Promise<Guidance | null> {
  const { cfg, cfgInterval: interval } = options;
  if (cfg === null) return null;
  if (options.guide === null) {
    if (denoiser.labelDim) return { scale: cfg, interval };
    throw usage(
      'NO_CLASSES',
      `--cfg ${cfg}: this network was trained without class labels; add --guide SNAPSHOT to guide by a worse network, or leave the option out`,
    );
  }
  const { denoiser: guide } = await loadSnapshot(options.guide, device);
  prepareDenoiser(guide, device, options.precision);
  const reason = mismatch(denoiser, guide);
  if (!reason) return { scale: cfg, interval, guide };
  guide.dispose();
  throw usage(
    'BAD_GUIDE',
    `--guide ${options.guide} ${reason}; use a snapshot that was trained on the same data`,
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

/** What a user should know of the guidance: a network that never saw "no class" cannot tell what to move away from. */
export function guidanceWarning(guidance: Guidance | null, denoiser: Denoiser): string | null {
  if (!guidance || guidance.guide || guidance.scale === 1 || denoiser.spec.network.labelDropout) return null;
  return `--cfg ${guidance.scale}: this network was trained without --label-dropout, so it never learnt to do without a class; expect odd images`;
}
