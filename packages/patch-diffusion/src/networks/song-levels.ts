/** What a {@link SongUNet} is made of. Without native imports, so that options can be checked before anything is built. */
import type { Init } from './init.js';
import type { Conv2dOptions, LayerSpec, Levels, UNetBlockOptions, UNetShape } from './levels.js';

export interface SongUNetOptions extends UNetShape {
  /** Base channel count M. Default 128. */
  readonly modelChannels?: number;
  /** Channel multiplier per level, the finest first. Default [1, 2, 2, 2]. */
  readonly channelMult?: readonly number[];
  /** Width of the embedding in units of M. Default 4. */
  readonly channelMultEmb?: number;
  /** Residual blocks per level of the encoder. Default 4. */
  readonly numBlocks?: number;
  /** Nominal resolutions with self-attention. Default [16]. */
  readonly attnResolutions?: readonly number[];
  /** Dropout probability in the residual blocks. Default 0.1. */
  readonly dropout?: number;
  readonly embeddingType?: 'positional' | 'fourier';
  /** Width of the noise embedding in units of M. Default 1; NCSN++ uses 2. */
  readonly channelMultNoise?: number;
  readonly encoderType?: 'standard' | 'skip' | 'residual';
  readonly decoderType?: 'standard' | 'skip';
  /** Resampling taps. Default [1, 1]; NCSN++ uses [1, 3, 3, 1]. */
  readonly resampleFilter?: readonly number[];
  /** Puts a pointwise MLP before the first convolution. Default false. */
  readonly implicitMlp?: boolean;
}

/** The sizes that options leave out. */
export const SONG_DEFAULTS = { modelChannels: 128, channelMult: [1, 2, 2, 2], numBlocks: 4 } as const;

/** Initialisation of the layers that have none of their own. */
export const INIT: Init = { mode: 'xavier_uniform' };
const INIT_ZERO: Init = { mode: 'xavier_uniform', weight: 1e-5 };
const INIT_ATTN: Init = { mode: 'xavier_uniform', weight: Math.sqrt(0.2) };

/** The encoder and decoder, in the order (and so with the random draws) of the official network. */
export function songLevels(options: SongUNetOptions): Levels {
  const { modelChannels = SONG_DEFAULTS.modelChannels, channelMult = SONG_DEFAULTS.channelMult } = options;
  const { numBlocks = SONG_DEFAULTS.numBlocks } = options;
  const { imgResolution, inChannels, outChannels, attnResolutions = [16] } = options;
  const { encoderType = 'standard', decoderType = 'standard', resampleFilter = [1, 1] } = options;
  const common: UNetBlockOptions = {
    numHeads: 1,
    dropout: options.dropout ?? 0.1,
    skipScale: Math.SQRT1_2,
    eps: 1e-6,
    resampleFilter,
    resampleProj: true,
    adaptiveScale: false,
    init: INIT,
    initZero: INIT_ZERO,
    initAttn: INIT_ATTN,
  };
  const block = (from: number, to: number, extra: UNetBlockOptions = {}): LayerSpec => ({
    ...{ kind: 'block', from, to },
    options: { ...common, ...extra },
  });
  const conv = (from: number, to: number, kernel: number, options: Conv2dOptions): LayerSpec => ({
    ...{ kind: 'conv', from, to, kernel, options },
  });
  const sides = channelMult.map((_, level) => imgResolution >> level);
  const hasAttention = (side: number) => attnResolutions.includes(side);

  const enc: [string, LayerSpec][] = [];
  const skipChannels: number[] = [];
  let channels = modelChannels;
  let auxChannels = inChannels;
  const add = (name: string, layer: LayerSpec, to: number) => {
    enc.push([name, layer]);
    skipChannels.push(to);
    channels = to;
  };
  for (const [level, side] of sides.entries()) {
    const at = `${side}x${side}`;
    if (level === 0) {
      const first = options.implicitMlp
        ? ({ kind: 'mlp', from: inChannels, to: modelChannels, init: INIT } as const)
        : conv(inChannels, modelChannels, 3, { init: INIT });
      add(`${at}_conv`, first, modelChannels);
    } else {
      add(`${at}_down`, block(channels, channels, { down: true }), channels);
      if (encoderType === 'skip') {
        enc.push([`${at}_aux_down`, conv(auxChannels, auxChannels, 0, { down: true, resampleFilter })]);
        enc.push([`${at}_aux_skip`, conv(auxChannels, channels, 1, { init: INIT })]);
      } else if (encoderType === 'residual') {
        const resample = { down: true, resampleFilter, fusedResample: true, init: INIT };
        enc.push([`${at}_aux_residual`, conv(auxChannels, channels, 3, resample)]);
        auxChannels = channels;
      }
    }
    for (let i = 0; i < numBlocks; i++) {
      const to = modelChannels * channelMult[level];
      add(`${at}_block${i}`, block(channels, to, { attention: hasAttention(side) }), to);
    }
  }

  const dec: [string, LayerSpec][] = [];
  for (const [level, side] of [...sides.entries()].reverse()) {
    const at = `${side}x${side}`;
    const deepest = level === sides.length - 1;
    if (deepest) {
      dec.push([`${at}_in0`, block(channels, channels, { attention: true })]);
      dec.push([`${at}_in1`, block(channels, channels)]);
    } else {
      dec.push([`${at}_up`, block(channels, channels, { up: true })]);
    }
    for (let i = 0; i <= numBlocks; i++) {
      const to = modelChannels * channelMult[level];
      const attention = i === numBlocks && hasAttention(side);
      dec.push([`${at}_block${i}`, block(channels + skipChannels.pop()!, to, { attention })]);
      channels = to;
    }
    if (decoderType === 'skip' || level === 0) {
      if (decoderType === 'skip' && !deepest) {
        dec.push([`${at}_aux_up`, conv(outChannels, outChannels, 0, { up: true, resampleFilter })]);
      }
      dec.push([`${at}_aux_norm`, { kind: 'norm', channels, eps: 1e-6 }]);
      dec.push([`${at}_aux_conv`, conv(channels, outChannels, 3, { init: INIT_ZERO })]);
    }
  }
  return { enc, dec, modelChannels, channels, sizeFactor: 2 ** (sides.length - 1) };
}
