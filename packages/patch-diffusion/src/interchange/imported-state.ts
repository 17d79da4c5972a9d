/**
 * Resuming from an imported training state: weights, average, Adam and the image count come from it; the data order, the
 * random streams and the run folder are new, as with the official `--resume`.
 */
import type { Module, Optimizer, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { TrainOptionsInput } from '../config/train-options.js';
import { checkPrecondSpec } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { checkContents, checkFields, readMetadata, readTensorHeader } from '../formats/file-description.js';
import { openTensorFile, tensorsUnder } from '../formats/tensor-file.js';
import { ARCHITECTURES, type Architecture } from '../networks/index.js';
import { type StateParts, withStateParts } from './import.js';
import { type OfficialState, withCheckpoint } from './official-checkpoint.js';

const infoSchema = z.looseObject({
  kind: z.literal('training-state'),
  imported: z.literal(true),
  precond: z.unknown(),
  nimg: z.number().int().min(0),
  step: z.number().int().min(0),
});

/** What an imported state fills. */
interface RestoredState {
  readonly denoiser: Denoiser;
  readonly ema: Denoiser;
  readonly optimizer: Optimizer;
  /** Images trained on. */
  nimg: number;
  /** Updates. */
  step: number;
}

const isOfficial = (file: string): boolean => /\.pth?$/.test(file);

/**
 * The network of an imported state, or of an official `training-state-*.pt`; null when the path is neither.
 * @throws UserError when the file is damaged
 */
export async function importedNetwork(path: string): Promise<PrecondSpec | null> {
  if (isOfficial(path)) return withTrainingState(path, ({ net }) => net.spec);
  if (!path.endsWith('.safetensors')) return null;
  const parsed = infoSchema.safeParse(readMetadata(readTensorHeader(path), path));
  return parsed.success ? checkPrecondSpec(parsed.data.precond, path) : null;
}

/** Opens an official training state. */
function withTrainingState<T>(path: string, use: (state: OfficialState) => T | Promise<T>): Promise<T> {
  return withCheckpoint(path, (checkpoint) => {
    if (checkpoint.kind === 'training-state') return use(checkpoint);
    throw new UserError(
      'NOT_A_STATE',
      `${path} is no training state; name a training-state-*.pt, or start from a snapshot with --transfer`,
    );
  });
}

/** The options that describe such a network, so that nobody has to repeat them. */
export function networkOptions({ network, type }: PrecondSpec, file: string): TrainOptionsInput {
  const arch = architectureOf(network);
  if (type !== 'pedm' || arch === null) {
    throw new UserError(
      'STATE_MISMATCH',
      `${file} is of a network that cannot be trained here; start from its snapshot with --transfer`,
    );
  }
  const { modelChannels, channelMult, numBlocks, attnResolutions, dropout, labelDropout } = network;
  const given = { modelChannels, channelMult, numBlocks, attnResolutions, dropout, labelDropout };
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  const implicitMlp = network.type === 'SongUNet' && network.implicitMlp === true;
  return { ...(Object.fromEntries(known) as TrainOptionsInput), arch, implicitMlp };
}

function architectureOf(network: PrecondSpec['network']): Architecture | null {
  if (network.type === 'DhariwalUNet') return 'adm';
  if (network.decoderType === 'skip' || network.encoderType === 'skip') return null;
  const isNcsn = network.encoderType === 'residual' || network.embeddingType === 'fourier';
  const arch: Architecture = isNcsn ? 'ncsnpp' : 'ddpmpp';
  const expected: Readonly<Record<string, unknown>> = ARCHITECTURES[arch];
  const fixed = ['embeddingType', 'encoderType', 'channelMultNoise', 'resampleFilter'] as const;
  const isSame = fixed.every(
    (key) => network[key] === undefined || String(network[key]) === String(expected[key]),
  );
  return isSame ? arch : null;
}

/**
 * Restores weights, average, Adam and counters in place; returns the names of tensors that this trainer does not need.
 * @throws UserError when the file does not fit the network
 */
export async function restoreImported(path: string, state: RestoredState): Promise<string[]> {
  if (isOfficial(path)) {
    return withTrainingState(path, (official) =>
      withStateParts(official, path, (info, parts) => restore(info, (part) => parts[part], state, path)),
    );
  }
  const reader = await openTensorFile(path);
  try {
    const info = checkFields(infoSchema, readMetadata(reader, path), `${path}: the description's field`);
    await checkContents(path);
    return restore(info, (part) => tensorsUnder(reader, part), state, path);
  } finally {
    await reader.close();
  }
}

/** @param read the tensors of one part, in the current scope where they have to be read */
function restore(
  { nimg, step }: { readonly nimg: number; readonly step: number },
  read: (part: keyof StateParts) => ReadonlyMap<string, Tensor>,
  state: RestoredState,
  file: string,
): string[] {
  try {
    const unused = torch.scope(() => load(state.denoiser, read('net.'), file));
    torch.scope(() => load(state.ema, read('ema.'), file));
    torch.scope(() => {
      const own = state.optimizer.stateDict();
      const known = [...read('adam.')].filter(([key]) => own.has(key));
      state.optimizer.loadStateDict(new Map(known));
    });
    Object.assign(state, { nimg, step });
    return unused;
  } catch (cause) {
    if (!(cause instanceof torch.StateDictError)) throw cause;
    throw new UserError('STATE_MISMATCH', `${file}: ${cause.message}; or use --transfer`, { cause });
  }
}

/** Everything that the network has must be there; only the augmentation's input may be left over. */
function load(module: Module, tensors: ReadonlyMap<string, Tensor>, file: string): string[] {
  const { missing, mismatched, unexpected } = module.loadStateDict(tensors, { strict: false });
  const strange = [
    ...missing,
    ...mismatched,
    ...unexpected.filter((name) => name !== 'model.map_augment.weight'),
  ];
  if (strange.length) {
    throw new UserError(
      'STATE_MISMATCH',
      `${file} does not fit the network of these options and images (${strange.length} tensors, such as ${strange[0]}); train on images of its size and classes, or use --transfer`,
    );
  }
  return unexpected;
}
