/**
 * Official checkpoints to ours: `network-snapshot-*.pkl` becomes a snapshot, `training-state-*.pt` (with the snapshot
 * beside it, which has the average) a training state that `--resume` accepts.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { type Tensor, writeSafetensors } from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { METADATA_KEY } from '../formats/file-description.js';
import { foreignInfo, nimgOf } from './foreign-info.js';
import {
  type OfficialNetwork,
  type OfficialSnapshot,
  type OfficialState,
  withCheckpoint,
} from './official-checkpoint.js';
import { writeSnapshot } from './snapshot.js';
import { buildDenoiser, weightsOfTensors } from './weights.js';

interface ImportOptions {
  /** File to write; default: beside the source, with the extension .safetensors. */
  readonly out?: string | null;
}

export interface ImportResult {
  readonly kind: 'snapshot' | 'training-state';
  /** The file that was written. */
  readonly file: string;
  readonly precond: PrecondSpec;
  /** Images trained on, from the file's name; 0 where it does not tell. */
  readonly nimg: number;
  readonly tensors: number;
}

/**
 * Converts a checkpoint of the official programs.
 * @throws UserError when the file is damaged, unsafe, of an unknown network, or a state without its snapshot
 * @example
 * ```ts
 * const { file, nimg } = await importCheckpoint('network-snapshot-000012.pkl');
 * ```
 */
export async function importCheckpoint(file: string, options: ImportOptions = {}): Promise<ImportResult> {
  const out = options.out ?? join(dirname(file), basename(file).replace(/(\.pkl|\.pth?)?$/, '.safetensors'));
  return withCheckpoint(file, (checkpoint) => {
    if (checkpoint.kind === 'snapshot') return importSnapshot(checkpoint, file, out);
    if (checkpoint.kind === 'training-state') return importState(checkpoint, file, out);
    throw new UserError(
      'NOT_A_CHECKPOINT',
      `${file} is a bare state dict of ${checkpoint.tensors.length} tensors, which does not say what network it is of; import a network-snapshot-*.pkl`,
    );
  });
}

async function importSnapshot(
  checkpoint: OfficialSnapshot,
  file: string,
  out: string,
): Promise<ImportResult> {
  const { ema } = checkpoint;
  using denoiser = build(ema, file);
  const info = foreignInfo(ema.spec, file, checkpoint);
  await writeSnapshot(out, denoiser, info);
  return result('snapshot', out, ema, info.nimg);
}

async function importState(state: OfficialState, file: string, out: string): Promise<ImportResult> {
  return withStateParts(state, file, async (info, parts) => {
    const tensors = Object.entries(parts).flatMap(([prefix, dict]) =>
      Array.from(dict, ([name, tensor]): [string, Tensor] => [prefix + name, tensor]),
    );
    await writeSafetensors(out, tensors, { [METADATA_KEY]: JSON.stringify(info) }, { checksum: true });
    return result('training-state', out, state.net, info.nimg);
  });
}

/** Description of an imported state. */
export interface ImportedStateInfo {
  readonly kind: 'training-state';
  readonly formatVersion: 1;
  readonly imported: true;
  readonly precond: PrecondSpec;
  readonly optimizer: OfficialState['optimizer'];
  readonly nimg: number;
  readonly step: number;
}

/** The tensors of an imported state by the prefix of their names: weights, average and Adam's state. */
export type StateParts = Readonly<Record<'net.' | 'ema.' | 'adam.', ReadonlyMap<string, Tensor>>>;

/**
 * Hands an official state to `use`, in our terms; the tensors are freed afterwards.
 * @throws UserError when the snapshot with its average is not beside it, or either is damaged
 */
export async function withStateParts<T>(
  state: OfficialState,
  file: string,
  use: (info: ImportedStateInfo, parts: StateParts) => T | Promise<T>,
): Promise<T> {
  const beside = join(
    dirname(file),
    basename(file)
      .replace('training-state', 'network-snapshot')
      .replace(/\.pth?$/, '.pkl'),
  );
  if (beside === file || !existsSync(beside)) {
    throw new UserError(
      'NO_AVERAGE',
      `${file} has no averaged weights; put its ${basename(beside)} into the same folder, as the official --resume needs it too`,
    );
  }
  return withCheckpoint(beside, async (snapshot) => {
    if (snapshot.kind !== 'snapshot')
      throw new UserError('NOT_A_CHECKPOINT', `${beside} is no network snapshot`);
    const step = stepOf(state.moments, file);
    using net = build(state.net, file);
    using ema = build(snapshot.ema, beside);
    const adam = new Map<string, Tensor>();
    try {
      for (const [name, { shape }] of net.namedParameters()) {
        const moments = state.moments.get(name);
        adam.set(`exp_avg.${name}`, moments?.expAvg.toTensor() ?? torch.zeros(shape));
        adam.set(`exp_avg_sq.${name}`, moments?.expAvgSq.toTensor() ?? torch.zeros(shape));
      }
      adam.set('step', torch.tensor(step, { dtype: 'float32' }));
      const info = {
        ...({ kind: 'training-state', formatVersion: 1, imported: true } as const),
        ...{ precond: state.net.spec, optimizer: state.optimizer, nimg: nimgOf(file), step },
      };
      return await use(info, { 'net.': net.stateDict(), 'ema.': ema.stateDict(), 'adam.': adam });
    } finally {
      for (const tensor of adam.values()) tensor.dispose();
    }
  });
}

const build = ({ spec, tensors }: OfficialNetwork, file: string) =>
  buildDenoiser(spec, weightsOfTensors(tensors), file);

/** The step count of the optimiser. Our Adam has only one, so all parameters must agree. */
function stepOf(moments: OfficialState['moments'], file: string): number {
  const steps = new Set([...moments.values()].map(({ step }) => step));
  if (steps.size <= 1) return [...steps][0] ?? 0;
  throw new UserError(
    'STATE_MISMATCH',
    `${file}: the optimiser counts different steps for different parameters, so it cannot be continued here; use its network snapshot with --transfer`,
  );
}

function result(
  kind: ImportResult['kind'],
  file: string,
  { spec, tensors }: OfficialNetwork,
  nimg: number,
): ImportResult {
  return { kind, file, precond: spec, nimg, tensors: tensors.length };
}
