/**
 * U-Nets as data: their layers by name, and whether the widths of these are possible. Without native imports, so that
 * options can be checked before anything is built.
 */
import type { Init } from './init.js';

/** Sizes that every U-Net has, besides its own options. */
export interface UNetShape {
  /** Nominal side of the images in pixels; it names the levels and places the attention. */
  readonly imgResolution: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** Length of the class-label vectors; 0 for none. */
  readonly labelDim?: number;
  /** Length of the augmentation vectors; 0 for none. */
  readonly augmentDim?: number;
  /** Probability of dropping a sample's class label in training. Default 0. */
  readonly labelDropout?: number;
}

/** The two limits on the number of groups of a group normalisation. */
export interface GroupOptions {
  /** Default 32. */
  readonly numGroups?: number;
  /** Default 4. */
  readonly minChannelsPerGroup?: number;
}

export interface Conv2dOptions {
  readonly bias?: boolean;
  /** Doubles the resolution. */
  readonly up?: boolean;
  /** Halves the resolution. */
  readonly down?: boolean;
  /** Taps of the separable resampling filter. Default [1, 1]: nearest-neighbour up, 2×2 mean down. */
  readonly resampleFilter?: readonly number[];
  /** Merges the resampling filter's padding with the convolution's, as NCSN++ does. */
  readonly fusedResample?: boolean;
  readonly init?: Init;
}

export interface UNetBlockOptions {
  readonly up?: boolean;
  readonly down?: boolean;
  /** Appends self-attention over the feature map. */
  readonly attention?: boolean;
  /** Attention heads; by default out channels / `channelsPerHead`. */
  readonly numHeads?: number | null;
  readonly channelsPerHead?: number;
  /** Dropout probability before the second convolution, in training only. */
  readonly dropout?: number;
  /** Factor on each residual sum. */
  readonly skipScale?: number;
  readonly eps?: number;
  readonly resampleFilter?: readonly number[];
  /** Gives a resampling skip path a 1×1 convolution even where the channel count stays. */
  readonly resampleProj?: boolean;
  /** Scale and shift from the embedding (ADM) instead of a shift (DDPM++). */
  readonly adaptiveScale?: boolean;
  readonly init?: Init;
  readonly initZero?: Init;
  readonly initAttn?: Init | null;
}

/** A layer before it is built. */
export type LayerSpec =
  | { readonly kind: 'block'; readonly from: number; readonly to: number; readonly options: UNetBlockOptions }
  | {
      readonly kind: 'conv';
      readonly from: number;
      readonly to: number;
      readonly kernel: number;
      readonly options: Conv2dOptions;
    }
  | { readonly kind: 'norm'; readonly channels: number; readonly eps: number }
  | { readonly kind: 'mlp'; readonly from: number; readonly to: number; readonly init: Init };

export type NamedLayers = readonly (readonly [name: string, layer: LayerSpec])[];

/** Encoder and decoder, finest level first and last. */
export interface Levels {
  readonly enc: NamedLayers;
  readonly dec: NamedLayers;
  /** Base channel count M. */
  readonly modelChannels: number;
  /** Channels at the end of the decoder. */
  readonly channels: number;
  /** Both sides of an input must be divisible by this, 2^(levels − 1). */
  readonly sizeFactor: number;
}

/** Groups of a group normalisation. */
export const groupCount = (
  channels: number,
  { numGroups = 32, minChannelsPerGroup = 4 }: GroupOptions = {},
): number => Math.min(numGroups, Math.floor(channels / minChannelsPerGroup));

/** Attention heads of a block; 0 without attention. */
export function headCount(channels: number, options: UNetBlockOptions): number {
  const { attention = false, numHeads = null, channelsPerHead = 64 } = options;
  return attention ? (numHeads ?? Math.floor(channels / channelsPerHead)) : 0;
}

/** Why layers of these widths cannot be, or null. */
export function widthProblem({ enc, dec }: Pick<Levels, 'enc' | 'dec'>): string | null {
  for (const [, layer] of [...enc, ...dec]) {
    const problem = layerProblem(layer);
    if (problem !== null) return problem;
  }
  return null;
}

function layerProblem(layer: LayerSpec): string | null {
  if (layer.kind === 'norm') return groupProblem(layer.channels);
  if (layer.kind !== 'block') return null;
  const heads = headCount(layer.to, layer.options);
  if (heads > 0 && layer.to % heads !== 0)
    return `${layer.to} channels do not make ${heads} equal attention heads`;
  return groupProblem(layer.from) ?? groupProblem(layer.to);
}

function groupProblem(channels: number): string | null {
  const groups = groupCount(channels);
  if (groups > 0 && channels % groups === 0) return null;
  return `${channels} channels do not make ${Math.max(groups, 1)} equal groups for normalisation`;
}
