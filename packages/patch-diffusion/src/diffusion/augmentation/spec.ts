/**
 * What the augmentation does, as plain data (Karras et al. 2022, appendix F.2; the pipeline is Karras et al. 2020,
 * appendix B, made non-leaky by telling the network which transformations were applied). Without native imports.
 */

/** The transformations, in the order in which they are drawn, applied, and laid out in the labels. */
export const AUGMENT_COLUMNS = {
  xflip: 1,
  yflip: 1,
  rotateInt: 2,
  translateInt: 2,
  scale: 1,
  rotateFrac: 2,
  aniso: 2,
  translateFrac: 2,
  brightness: 1,
  contrast: 1,
  lumaflip: 1,
  hue: 2,
  saturation: 1,
} as const;

export type AugmentOpName = keyof typeof AUGMENT_COLUMNS;

/** Strengths, 0 by default: a transformation happens to a sample with probability min(strength · p, 1). */
export type AugmentStrengths = Readonly<Partial<Record<AugmentOpName, number>>>;

/** How far each transformation goes. */
export interface AugmentShape {
  /** Largest integer translation, as a share of the side. Default 0.125. */
  readonly translateIntMax: number;
  /** Standard deviation of log2 of the scale. Default 0.2. */
  readonly scaleStd: number;
  /** Largest rotation, as a share of half a turn. Default 1. */
  readonly rotateFracMax: number;
  /** Standard deviation of log2 of the stretch. Default 0.2. */
  readonly anisoStd: number;
  /** Probability that the stretch is along another direction than the axes. Default 0.5. */
  readonly anisoRotateProb: number;
  /** Standard deviation of the translation, as a share of the side. Default 0.125. */
  readonly translateFracStd: number;
  /** Standard deviation of the brightness. Default 0.2. */
  readonly brightnessStd: number;
  /** Standard deviation of log2 of the contrast. Default 0.5. */
  readonly contrastStd: number;
  /** Largest hue rotation, as a share of half a turn. Default 1. */
  readonly hueMax: number;
  /** Standard deviation of log2 of the saturation. Default 1. */
  readonly saturationStd: number;
}

/** A pipeline; JSON. */
export interface AugmentSpec extends AugmentStrengths, Partial<AugmentShape> {
  /** Factor on all strengths. Default 1. */
  readonly p?: number;
}

export const AUGMENT_SHAPE_DEFAULTS: AugmentShape = {
  translateIntMax: 0.125,
  scaleStd: 0.2,
  rotateFracMax: 1,
  anisoStd: 0.2,
  anisoRotateProb: 0.5,
  translateFracStd: 0.125,
  brightnessStd: 0.2,
  contrastStd: 0.5,
  hueMax: 1,
  saturationStd: 1,
};

/**
 * The published training configuration: flips and geometry, 9 label columns. The strength of `xflip` opens its gate
 * always, which makes it a plain mirroring of half the samples.
 * @param p augmentation probability, 0 … 1
 * @example
 * ```ts
 * const spec = trainingAugment(0.12); // flips and geometry, each for about 12 % of the images
 * ```
 */
export function trainingAugment(p: number): AugmentSpec {
  return { p, xflip: 1e8, yflip: 1, scale: 1, rotateFrac: 1, aniso: 1, translateFrac: 1 };
}

/** The transformations that are on. */
export function activeOps(spec: AugmentSpec): AugmentOpName[] {
  return (Object.keys(AUGMENT_COLUMNS) as AugmentOpName[]).filter((name) => (spec[name] ?? 0) > 0);
}

/**
 * Length of the label vectors, the network's `augmentDim`.
 * @example
 * ```ts
 * const augmentDim = augmentLabelDim(trainingAugment(0.12)); // 9
 * ```
 */
export function augmentLabelDim(spec: AugmentSpec): number {
  return activeOps(spec).reduce((sum, name) => sum + AUGMENT_COLUMNS[name], 0);
}
