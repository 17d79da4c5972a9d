/**
 * Training losses: weight(σ) · (D(y + n; σ) − y)², per element (Karras et al. 2022, table 1). They
 * are the same for patches and whole images; only their normalisation knows the patch size.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';
import type { Augment, PatchBatch } from '../patches/batches.js';
import type { Extent } from '../patches/extent.js';
import { type Candidates, immiscibleNoise } from './immiscible.js';
import { DEFAULT_SIGMA_DATA, EDM_NOISE, VE, VP } from './noise-levels.js';
import type { Denoiser } from './preconditioning.js';

/** Where the noise levels come from and how they are weighted. */
export type LossSpec =
  | { readonly type: 'edm'; readonly pMean?: number; readonly pStd?: number; readonly sigmaData?: number }
  | { readonly type: 've'; readonly sigmaMin?: number; readonly sigmaMax?: number }
  | { readonly type: 'vp'; readonly betaD?: number; readonly betaMin?: number; readonly epsilonT?: number };

/**
 * The loss of one batch, unreduced: [N, C, H, W].
 * @example
 * ```ts
 * const denoiser = createDenoiser({
 *   type: 'edm',
 *   network: { type: 'SongUNet', imgResolution: 16, inChannels: 3, outChannels: 3, modelChannels: 8 },
 * });
 * const batch = { images: torch.rand([4, 3, 16, 16]).mul(2).sub(1) };
 * const loss = denoisingLoss(denoiser, batch, new TorchRandom()); // [4, 3, 16, 16]
 * loss.mean().backward();
 * ```
 */
export function denoisingLoss(
  denoiser: Denoiser,
  batch: PatchBatch,
  random: RandomSource,
  spec: LossSpec = { type: 'edm' },
  augment?: Augment | null,
): Tensor {
  return torch.scope(() => lossOf(denoiser, addNoise(batch, random, { spec, augment }), random, spec));
}

/** How {@link addNoise} draws. */
export interface LevelLossOptions {
  readonly spec: LossSpec;
  readonly augment?: Augment | null | undefined;
  /** ln σ at probabilities 0, 1/n, …, 1, in place of EDM's distribution. */
  readonly quantiles?: Float32Array | null | undefined;
  /** Of which each image's noise is chosen; without them noise and images are independent. */
  readonly candidates?: Candidates | null | undefined;
}

/** Images with noise, and what the denoiser is told about them. */
export interface NoisyBatch {
  /** [N, C, H, W]. */
  readonly clean: Tensor;
  /** [N, C, H, W]. */
  readonly noisy: Tensor;
  /** [N, 1, 1, 1]. */
  readonly sigma: Tensor;
  readonly positions: Tensor | null;
  readonly classLabels: Tensor | null;
  readonly augmentLabels: Tensor | null;
}

/** Draws noise levels and noise for a batch, and augments it first where that is wanted. */
export function addNoise(
  batch: PatchBatch,
  random: RandomSource,
  { spec, augment, quantiles, candidates }: LevelLossOptions,
): NoisyBatch {
  return torch.scope(() => {
    const sigma = drawSigma(spec, batch.images.shape[0], random, quantiles);
    const augmented = augment
      ? augment(batch.images, random)
      : { images: batch.images, labels: batch.augmentLabels };
    const clean = augmented.images;
    const drawn = random.randn('noise', clean.shape);
    const noise = candidates ? immiscibleNoise(drawn, clean, batch.energyOutside, candidates) : drawn;
    return {
      clean,
      noisy: clean.add(noise.mul(sigma)),
      sigma,
      positions: batch.positions ?? null,
      classLabels: batch.labels ?? null,
      augmentLabels: augmented.labels ?? null,
    };
  });
}

/** The loss of a batch, unreduced, [N, C, H, W]. @param random draws which labels are dropped */
export function lossOf(denoiser: Denoiser, batch: NoisyBatch, random: RandomSource, spec: LossSpec): Tensor {
  return torch.scope(() => {
    const { clean, noisy, sigma, ...conditioning } = batch;
    const D = denoiser.forward(noisy, sigma, { ...conditioning, random });
    return D.sub(clean).square().mul(lossWeight(spec, sigma));
  });
}

/** Noise levels of a training batch, [N, 1, 1, 1]. */
function drawSigma(
  spec: LossSpec,
  count: number,
  random: RandomSource,
  quantiles?: Float32Array | null,
): Tensor {
  const shape = [count, 1, 1, 1];
  switch (spec.type) {
    case 'edm': {
      const normal = random.randn('rnd_normal', shape);
      if (quantiles) return levelsAt(normal, quantiles).exp();
      return normal
        .mul(spec.pStd ?? EDM_NOISE.pStd)
        .add(spec.pMean ?? EDM_NOISE.pMean)
        .exp();
    }
    case 've': {
      const { sigmaMin = VE.sigmaMin, sigmaMax = VE.sigmaMax } = spec;
      return torch.pow(sigmaMax / sigmaMin, random.rand('rnd_uniform', shape)).mul(sigmaMin);
    }
    case 'vp': {
      const { betaD = VP.betaD, betaMin = VP.betaMin, epsilonT = VP.epsilonT } = spec;
      const t = random
        .rand('rnd_uniform', shape)
        .mul(epsilonT - 1)
        .add(1);
      return t
        .square()
        .mul(0.5 * betaD)
        .add(t.mul(betaMin))
        .exp()
        .sub(1)
        .sqrt();
    }
  }
}

/** Values of a distribution at the probabilities of normal draws, by its table of quantiles. */
function levelsAt(normal: Tensor, quantiles: Float32Array): Tensor {
  const steps = quantiles.length - 1;
  const place = normal
    .mul(Math.SQRT1_2)
    .erf()
    .add(1)
    .mul(steps / 2)
    .clamp(0, steps);
  const below = place.floor().clamp(0, steps - 1);
  const table = torch.tensor(quantiles, { device: normal.device });
  const at = (index: Tensor) =>
    table.indexSelect(0, index.to({ dtype: 'int64' }).flatten()).reshape(normal.shape);
  return at(below).lerp(at(below.add(1)), place.sub(below));
}

/** λ(σ): 1 / c_out² for EDM, 1 / σ² for VP and VE. */
export function lossWeight(spec: LossSpec, sigma: Tensor): Tensor {
  if (spec.type !== 'edm') return sigma.square().reciprocal();
  const sigmaData = spec.sigmaData ?? DEFAULT_SIGMA_DATA;
  return sigma
    .square()
    .add(sigmaData ** 2)
    .div(sigma.mul(sigmaData).square());
}

/**
 * How the losses of different patch sizes are weighed: `sum` over the elements of the patch, as published, or `mean`,
 * where every patch weighs as much as a whole image.
 */
export type LossNorm = 'sum' | 'mean';

/**
 * Factor on the summed loss of `count` patches: a mean over patches, normalised by patch size.
 * @example
 * ```ts
 * const patch = { height: 16, width: 16 };
 * const factor = lossFactor('mean', patch, { height: 64, width: 64 }, 32); // (64² / 16²) / 32
 * ```
 */
export function lossFactor(norm: LossNorm, patch: Extent, image: Extent, count: number): number {
  const perPatch = norm === 'mean' ? (image.height * image.width) / (patch.height * patch.width) : 1;
  return perPatch / count;
}
