/**
 * Checks a network description that came from a file before anything is built from it: known keys, values in range, sizes
 * that fit together and that the file's own tensors confirm (a few bytes must not make us allocate gigabytes).
 */
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { checkFields } from '../formats/file-description.js';
import { type NetworkSpec, networkLevels } from '../networks/architectures.js';
import { DHARIWAL_DEFAULTS } from '../networks/dhariwal-levels.js';
import { widthProblem } from '../networks/levels.js';
import { SONG_DEFAULTS } from '../networks/song-levels.js';
import { POSITION_CHANNELS } from '../patches/extent.js';
import type { LossSpec } from './losses.js';
import type { PrecondSpec } from './precond-spec.js';

const count = (max: number, min = 0) => z.int().min(min).max(max);
const multipliers = z.array(count(64, 1)).min(1).max(10);

const shape = {
  imgResolution: count(16384, 1),
  inChannels: count(1024, 1),
  outChannels: count(1024, 1),
  labelDim: count(1_000_000).optional(),
  augmentDim: count(1024).optional(),
  modelChannels: count(8192, 1).optional(),
  channelMult: multipliers.optional(),
  channelMultEmb: count(64, 1).optional(),
  numBlocks: count(64, 1).optional(),
  attnResolutions: z.array(count(16384)).max(32).optional(),
  dropout: z.number().min(0).max(1).optional(),
  labelDropout: z.number().min(0).max(1).optional(),
};

const network = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('SongUNet'),
    ...shape,
    embeddingType: z.enum(['positional', 'fourier']).optional(),
    channelMultNoise: count(64, 1).optional(),
    encoderType: z.enum(['standard', 'skip', 'residual']).optional(),
    decoderType: z.enum(['standard', 'skip']).optional(),
    resampleFilter: z.array(z.number()).min(1).max(16).optional(),
    implicitMlp: z.boolean().optional(),
  }),
  z.strictObject({ type: z.literal('DhariwalUNet'), ...shape }),
]);

const level = z.number().min(0);
const positive = z.number().positive();
const edm = { sigmaMin: level.optional(), sigmaMax: positive.nullish(), sigmaData: positive.optional() };
const steps = count(100_000, 2).optional();

const image = z.object({ height: count(16384, 1), width: count(16384, 1) }).optional();
const precond = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('edm'), network, image, ...edm }),
  z.strictObject({ type: z.literal('pedm'), network, image, ...edm }),
  z.strictObject({
    ...{ type: z.literal('vp'), network, image, M: steps },
    ...{ betaD: positive.optional(), betaMin: level.optional(), epsilonT: positive.max(1).optional() },
  }),
  z.strictObject({
    ...{ type: z.literal('ve'), network, image },
    ...{ sigmaMin: positive.optional(), sigmaMax: positive.optional() },
  }),
  z.strictObject({
    ...{ type: z.literal('iddpm'), network, image, M: steps },
    ...{ C1: positive.max(1).optional(), C2: level.optional() },
  }),
]);

/** The description of a loss, as snapshots carry it. */
export const lossSchema = z.discriminatedUnion('type', [
  z.object({
    ...{ type: z.literal('edm'), pMean: z.number().optional(), pStd: level.optional() },
    sigmaData: positive.optional(),
  }),
  z.object({ type: z.literal('ve'), sigmaMin: positive.optional(), sigmaMax: positive.optional() }),
  z.object({
    ...{ type: z.literal('vp'), betaD: positive.optional(), betaMin: level.optional() },
    epsilonT: positive.max(1).optional(),
  }),
]) satisfies z.ZodType<LossSpec>;

/** @throws UserError naming the argument that is unknown or out of range, or what does not fit together */
export function checkPrecondSpec(spec: unknown, file: string): PrecondSpec {
  const checked = checkFields(precond, spec, `${file}: the network's argument`) as PrecondSpec;
  const problem = problemOf(checked);
  if (problem === null) return checked;
  throw new UserError(
    'BAD_CHECKPOINT',
    `${file}: its network cannot be built: ${problem}; the file is damaged or made by another program`,
  );
}

/** Why a network of these sizes cannot be, or null. */
function problemOf({ type, network, image }: PrecondSpec): string | null {
  const { inChannels, outChannels, imgResolution } = network;
  const isSong = network.type === 'SongUNet';
  const { modelChannels, channelMult } = withDefaults(network);
  const noise = modelChannels * (isSong ? (network.channelMultNoise ?? 1) : 1);
  if (noise % 2) return `${noise} channels for the noise level are odd`;
  const data = type === 'iddpm' ? outChannels / 2 : outChannels;
  const positions = inChannels - data;
  if (positions !== 0 && !(type === 'pedm' && positions === POSITION_CHANNELS))
    return `it has ${inChannels} channels in and ${outChannels} out`;
  const divisor = 2 ** (channelMult.length - 1);
  const { width, height } = image ?? { width: imgResolution, height: imgResolution };
  if (width % divisor || height % divisor)
    return `images of ${width}×${height} px cannot be halved ${channelMult.length - 1} times`;
  return widthProblem(networkLevels(network));
}

/** The sizes of the network, with the defaults of those that the description leaves out. */
function withDefaults({ type, ...network }: NetworkSpec) {
  const defaults = type === 'SongUNet' ? SONG_DEFAULTS : DHARIWAL_DEFAULTS;
  return {
    modelChannels: network.modelChannels ?? defaults.modelChannels,
    channelMult: network.channelMult ?? defaults.channelMult,
    numBlocks: network.numBlocks ?? defaults.numBlocks,
  };
}

/**
 * Compares the description with the file's tensors: the blocks of every level must be there in their sizes, so that the
 * network to be built is not much larger than the file.
 * @param shapes shape of each tensor by its official name
 */
export function checkSpecAgainstTensors(
  spec: PrecondSpec,
  shapes: ReadonlyMap<string, readonly number[]>,
  file: string,
): void {
  const n = spec.network;
  const isSong = n.type === 'SongUNet';
  const { modelChannels: base, channelMult: mult, numBlocks: blocks } = withDefaults(n);
  const noise = base * (n.type === 'SongUNet' ? (n.channelMultNoise ?? 1) : 1);
  const emb = base * (n.channelMultEmb ?? 4);
  const need = (name: string, expected: readonly number[]) => {
    const actual = shapes.get(name);
    if (actual?.length === expected.length && expected.every((dim, d) => dim === actual[d])) return;
    const found = actual ? `has the shape [${actual}]` : 'is missing';
    throw new UserError(
      'BAD_CHECKPOINT',
      `${file}: the tensor ${name} ${found} where the network's arguments ask for [${expected}]; the file is damaged, or of an unknown variant`,
    );
  };
  need('model.map_layer0.weight', [emb, noise]);
  if (n.labelDim) need('model.map_label.weight', [isSong ? noise : emb, n.labelDim]);
  const first = `model.enc.${n.imgResolution}x${n.imgResolution}_conv`;
  const width = isSong ? base : base * mult[0];
  if (n.type === 'SongUNet' && n.implicitMlp) need(`${first}.0.weight`, [width, n.inChannels, 1, 1]);
  else need(`${first}.weight`, [width, n.inChannels, 3, 3]);
  for (const [level, factor] of mult.entries()) {
    const side = n.imgResolution >> level;
    const channels = base * factor;
    for (let i = 0; i < blocks; i++) {
      need(`model.enc.${side}x${side}_block${i}.conv1.weight`, [channels, channels, 3, 3]);
    }
  }
}
