/** What a {@link DhariwalUNet} is made of. Without native imports, so that options can be checked before anything is built. */
import type { Init } from './init.js';
import type { LayerSpec, Levels, UNetBlockOptions, UNetShape } from './levels.js';

export interface DhariwalUNetOptions extends UNetShape {
  /** Base channel count M. Default 192. */
  readonly modelChannels?: number;
  /** Channel multiplier per level, the finest first. Default [1, 2, 3, 4]. */
  readonly channelMult?: readonly number[];
  /** Width of the embedding in units of M. Default 4. */
  readonly channelMultEmb?: number;
  /** Residual blocks per level of the encoder. Default 3. */
  readonly numBlocks?: number;
  /** Nominal resolutions with self-attention. Default [32, 16, 8]. */
  readonly attnResolutions?: readonly number[];
  /** Dropout probability in the residual blocks. Default 0.1. */
  readonly dropout?: number;
}

/** The sizes that options leave out. */
export const DHARIWAL_DEFAULTS = { modelChannels: 192, channelMult: [1, 2, 3, 4], numBlocks: 3 } as const;

export const INIT: Init = { mode: 'kaiming_uniform', weight: Math.sqrt(1 / 3), bias: Math.sqrt(1 / 3) };
export const INIT_ZERO: Init = { mode: 'kaiming_uniform', weight: 0, bias: 0 };

/** The encoder and decoder, in the order (and so with the random draws) of the official network. */
export function dhariwalLevels(options: DhariwalUNetOptions): Levels {
  const { modelChannels = DHARIWAL_DEFAULTS.modelChannels, channelMult = DHARIWAL_DEFAULTS.channelMult } =
    options;
  const { numBlocks = DHARIWAL_DEFAULTS.numBlocks } = options;
  const { imgResolution, inChannels, attnResolutions = [32, 16, 8] } = options;
  const common: UNetBlockOptions = { dropout: options.dropout ?? 0.1, init: INIT, initZero: INIT_ZERO };
  const block = (from: number, to: number, extra: UNetBlockOptions = {}): LayerSpec => ({
    ...{ kind: 'block', from, to },
    options: { ...common, ...extra },
  });
  const sides = channelMult.map((_, level) => imgResolution >> level);

  const enc: [string, LayerSpec][] = [];
  const skipChannels: number[] = [];
  let channels = modelChannels * channelMult[0];
  for (const [level, side] of sides.entries()) {
    const at = `${side}x${side}`;
    enc.push(
      level === 0
        ? [`${at}_conv`, { kind: 'conv', from: inChannels, to: channels, kernel: 3, options: { init: INIT } }]
        : [`${at}_down`, block(channels, channels, { down: true })],
    );
    skipChannels.push(channels);
    for (let i = 0; i < numBlocks; i++) {
      const to = modelChannels * channelMult[level];
      enc.push([`${at}_block${i}`, block(channels, to, { attention: attnResolutions.includes(side) })]);
      channels = to;
      skipChannels.push(channels);
    }
  }

  const dec: [string, LayerSpec][] = [];
  for (const [level, side] of [...sides.entries()].reverse()) {
    const at = `${side}x${side}`;
    if (level === sides.length - 1) {
      dec.push([`${at}_in0`, block(channels, channels, { attention: true })]);
      dec.push([`${at}_in1`, block(channels, channels)]);
    } else {
      dec.push([`${at}_up`, block(channels, channels, { up: true })]);
    }
    for (let i = 0; i <= numBlocks; i++) {
      const to = modelChannels * channelMult[level];
      const from = channels + skipChannels.pop()!;
      dec.push([`${at}_block${i}`, block(from, to, { attention: attnResolutions.includes(side) })]);
      channels = to;
    }
  }
  return { enc, dec, modelChannels, channels, sizeFactor: 2 ** (sides.length - 1) };
}
