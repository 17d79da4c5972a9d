/** The result of an evaluation, as JSON. The keys are documented in docs/evaluation.md and stay as they are. */
import type { FeatureRecord } from './features/detector.js';
import type { Figure } from './figure.js';
import type { Nearest } from './memorisation.js';

/** Names of the figures. */
export const FIGURES = [
  'heldOutLoss',
  'trainingLoss',
  'lossGap',
  'slicedWasserstein',
  'memorised',
  'avatarValidity',
  'avatarCoverage',
  'avatarNovelty',
  'avatarCopies',
  'avatarColourError',
  'fd',
  'kid',
  'precision',
  'recall',
  'density',
  'coverage',
  'fld',
  'fldGap',
] as const;
export type FigureName = (typeof FIGURES)[number];

/** Losses by noise level. */
export interface LossCurves {
  readonly sigmas: readonly number[];
  /** On the images that the loss is quoted for. */
  readonly judged: readonly number[];
  /** On as many training images; null where there are none apart from those. */
  readonly training: readonly number[] | null;
  /** On patches of those images, by patch size (`16`, `32x16`); the whole image is `judged`. */
  readonly patches: Readonly<Record<string, readonly number[]>>;
}

/** What the metrics of an evaluation have measured. */
export interface Measured {
  readonly metrics: { readonly [name in FigureName]?: Figure };
  readonly curves?: LossCurves;
  /** The samples that are nearest to a training image, relative to the next one. */
  readonly nearest?: readonly Nearest[];
  /** Null without features. */
  readonly features?: FeatureRecord | null;
}

/** Everything that was found out about one run, snapshot or folder. */
export interface EvaluationReport extends Measured {
  readonly format: 1;
  readonly name: string;
  readonly kind: 'run' | 'network' | 'images';
  readonly path: string;
  /** Snapshot that was used; null for images. */
  readonly snapshot: string | null;
  /** Images that it was trained on, as the paper counts them. */
  readonly nimg: number | null;
  readonly step: number | null;
  readonly data: {
    readonly path: string;
    /** Images that the loss is measured on, of which `lossImages` are used at most. */
    readonly images: number;
    readonly isHeldOut: boolean;
    readonly trainingImages: number | null;
    /** What samples are compared with. */
    readonly real: 'held-out' | 'training' | 'data';
  } | null;
  /** What was drawn, or read from a folder (then without seeds and steps). */
  readonly samples: {
    readonly count: number;
    readonly firstSeed: number | null;
    readonly lastSeed: number | null;
    readonly steps: number | null;
  } | null;
  readonly features: FeatureRecord | null;
  readonly warnings: readonly string[];
  /** ISO 8601. */
  readonly at: string;
  readonly seconds: number;
}
