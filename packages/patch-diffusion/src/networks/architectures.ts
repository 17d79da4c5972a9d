/** The denoising networks by name, as data. Without native imports. */
import { type DhariwalUNetOptions, dhariwalLevels } from './dhariwal-levels.js';
import type { Levels } from './levels.js';
import { type SongUNetOptions, songLevels } from './song-levels.js';

/** A network by class name with its constructor's options; plain JSON, embedded in every snapshot. */
export type NetworkSpec =
  | ({ readonly type: 'SongUNet' } & SongUNetOptions)
  | ({ readonly type: 'DhariwalUNet' } & DhariwalUNetOptions);

/** Network architectures of `--arch` (the paper's, table 1 of Karras et al. 2022). */
export const ARCHITECTURES = {
  ddpmpp: {
    type: 'SongUNet',
    embeddingType: 'positional',
    encoderType: 'standard',
    decoderType: 'standard',
    channelMultNoise: 1,
    resampleFilter: [1, 1],
    modelChannels: 128,
    channelMult: [2, 2, 2],
  },
  ncsnpp: {
    type: 'SongUNet',
    embeddingType: 'fourier',
    encoderType: 'residual',
    decoderType: 'standard',
    channelMultNoise: 2,
    resampleFilter: [1, 3, 3, 1],
    modelChannels: 128,
    channelMult: [2, 2, 2],
  },
  adm: { type: 'DhariwalUNet', modelChannels: 192, channelMult: [1, 2, 3, 4] },
} as const;

export type Architecture = keyof typeof ARCHITECTURES;

/** The layers of a network. */
export const networkLevels = (spec: NetworkSpec): Levels =>
  spec.type === 'SongUNet' ? songLevels(spec) : dhariwalLevels(spec);
