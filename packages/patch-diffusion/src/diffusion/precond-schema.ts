/**
 * Checks a network description that came from a foreign file before anything is built from it: known keys, sane ranges,
 * and sizes that the file's own tensors confirm (a few bytes must not make us allocate gigabytes).
 */
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { PrecondSpec } from './precond-spec.js';

const count = (max: number, min = 0) => z.int().min(min).max(max);
const real = z.number();
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
  dropout: real.min(0).max(1).optional(),
  labelDropout: real.min(0).max(1).optional(),
};

const network = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('SongUNet'),
    ...shape,
    embeddingType: z.enum(['positional', 'fourier']).optional(),
    channelMultNoise: count(64, 1).optional(),
    encoderType: z.enum(['standard', 'skip', 'residual']).optional(),
    decoderType: z.enum(['standard', 'skip']).optional(),
    resampleFilter: z.array(real).min(1).max(16).optional(),
    implicitMlp: z.boolean().optional(),
  }),
  z.strictObject({ type: z.literal('DhariwalUNet'), ...shape }),
]);

const constants = {
  edm: { sigmaMin: real.optional(), sigmaMax: real.nullable().optional(), sigmaData: real.optional() },
  vp: {
    betaD: real.optional(),
    betaMin: real.optional(),
    M: count(100_000, 2).optional(),
    epsilonT: real.optional(),
  },
  ve: { sigmaMin: real.optional(), sigmaMax: real.optional() },
  iddpm: { C1: real.optional(), C2: real.optional(), M: count(100_000, 2).optional() },
};

const image = z.object({ height: count(16384, 1), width: count(16384, 1) }).optional();
const precond = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('edm'), network, image, ...constants.edm }),
  z.strictObject({ type: z.literal('pedm'), network, image, ...constants.edm }),
  z.strictObject({ type: z.literal('vp'), network, image, ...constants.vp }),
  z.strictObject({ type: z.literal('ve'), network, image, ...constants.ve }),
  z.strictObject({ type: z.literal('iddpm'), network, image, ...constants.iddpm }),
]);

/** @throws UserError naming the argument that is unknown or out of range */
export function checkPrecondSpec(spec: unknown, file: string): PrecondSpec {
  const parsed = precond.safeParse(spec);
  if (parsed.success) return parsed.data as PrecondSpec;
  const { path, message } = parsed.error.issues[0];
  throw new UserError(
    'BAD_CHECKPOINT',
    `${file}: the network's argument ${path.join('.') || 'list'} cannot be used (${message}); the file is damaged or made by another program`,
  );
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
  const base = n.modelChannels ?? (isSong ? 128 : 192);
  const mult = n.channelMult ?? (isSong ? [1, 2, 2, 2] : [1, 2, 3, 4]);
  const blocks = n.numBlocks ?? (isSong ? 4 : 3);
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
