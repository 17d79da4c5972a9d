/**
 * Resuming from an imported training state: weights, average, Adam and the image count come from it; the data order, the
 * random streams and the run folder are new, as with the official `--resume`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Adam, Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { TrainOptionsInput } from '../config/train-options.js';
import { checkPrecondSpec } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { checkFields, readMetadata, readTensorHeader } from '../formats/file-description.js';
import { openTensorFile, tensorsUnder } from '../formats/tensor-file.js';
import { ARCHITECTURES, type Architecture } from '../networks/index.js';
import { importCheckpoint } from './import.js';
import { withCheckpoint } from './official-checkpoint.js';

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
  readonly optimizer: Adam;
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
  if (isOfficial(path)) {
    return withCheckpoint(path, (c) => {
      if (c.kind === 'training-state') return c.net.spec;
      throw new UserError(
        'NOT_A_STATE',
        `${path} is no training state; name a training-state-*.pt, or start from a snapshot with --transfer`,
      );
    });
  }
  if (!path.endsWith('.safetensors')) return null;
  const parsed = infoSchema.safeParse(readMetadata(readTensorHeader(path), path));
  return parsed.success ? checkPrecondSpec(parsed.data.precond, path) : null;
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
  if (!isOfficial(path)) return restore(path, state);
  const folder = await mkdtemp(join(tmpdir(), 'patch-diffusion-'));
  try {
    const { file } = await importCheckpoint(path, { out: join(folder, `${basename(path)}.safetensors`) });
    return await restore(file, state, path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function restore(file: string, state: RestoredState, name = file): Promise<string[]> {
  const reader = await openTensorFile(file);
  try {
    const info = checkFields(infoSchema, readMetadata(reader, file), `${name}: the description's field`);
    const unused = torch.scope(() => load(state.denoiser, tensorsUnder(reader, 'net.'), name));
    torch.scope(() => load(state.ema, tensorsUnder(reader, 'ema.'), name));
    torch.scope(() => {
      const own = state.optimizer.stateDict();
      const known = [...tensorsUnder(reader, 'adam.')].filter(([key]) => own.has(key));
      state.optimizer.loadStateDict(new Map(known));
    });
    Object.assign(state, { nimg: info.nimg, step: info.step });
    return unused;
  } catch (cause) {
    if (!(cause instanceof torch.StateDictError)) throw cause;
    throw new UserError('STATE_MISMATCH', `${name}: ${cause.message}; or use --transfer`, { cause });
  } finally {
    await reader.close();
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
