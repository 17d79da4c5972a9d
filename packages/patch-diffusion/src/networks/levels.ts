/**
 * U-Nets as data: their layers by name, and whether the widths of these are possible. Without native imports, so that
 * options can be checked before anything is built.
 */
import type { Init } from './init.js';
import type { Conv2dOptions } from './layers.js';
import type { UNetBlockOptions } from './unet-block.js';

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

/** Encoder and decoder, finest level first and last. */
export interface Levels {
  readonly enc: readonly (readonly [string, LayerSpec])[];
  readonly dec: readonly (readonly [string, LayerSpec])[];
  /** Channels at the end of the decoder. */
  readonly channels: number;
}

/** The two limits on the number of groups. */
export interface GroupOptions {
  /** Default 32. */
  readonly numGroups?: number;
  /** Default 4. */
  readonly minChannelsPerGroup?: number;
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
