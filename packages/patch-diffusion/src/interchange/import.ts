/**
 * Official checkpoints to ours: `network-snapshot-*.pkl` becomes a snapshot, `training-state-*.pt` (with the snapshot
 * beside it, which has the average) a training state that `--resume` accepts.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { datasetName } from '../data/names.js';
import type { PrecondSpec } from '../diffusion/preconditioning.js';
import { METADATA_KEY } from '../formats/tensor-file.js';
import {
  loadOfficial,
  type OfficialMoments,
  type OfficialNetwork,
  type OfficialSnapshot,
  type OfficialState,
  withCheckpoint,
} from './official-checkpoint.js';
import { type SnapshotInfo, writeSnapshot } from './snapshot.js';

export interface ImportOptions {
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
  const denoiser = loadOfficial(checkpoint.ema, file);
  try {
    const info = snapshotInfo(checkpoint, file);
    await writeSnapshot(out, denoiser, info);
    return result('snapshot', out, checkpoint.ema, info.nimg);
  } finally {
    denoiser.dispose();
  }
}

/** What an official snapshot tells in the terms of ours; training options and updates are not in it. */
export function snapshotInfo(
  { loss, dataset }: OfficialSnapshot,
  file: string,
): Omit<SnapshotInfo, 'kind' | 'formatVersion' | 'precond'> {
  const name = typeof dataset.path === 'string' ? datasetName(dataset.path) : 'unknown';
  return { loss, train: null, dataset: { name, classNames: null }, nimg: nimgOf(file), step: 0 };
}

/** `network-snapshot-012345.pkl` → 12 345 000, as the official `--resume` counts. */
export function nimgOf(file: string): number {
  const digits = /-(\d{4,9})\.[a-z]+$/.exec(basename(file))?.[1];
  return digits === undefined ? 0 : Number(digits) * 1000;
}

async function importState(state: OfficialState, file: string, out: string): Promise<ImportResult> {
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
    const net = loadOfficial(state.net, file);
    const ema = loadOfficial(snapshot.ema, beside);
    const moments = adamState(state.moments, [...net.namedParameters()], file);
    try {
      const step = state.moments.values().next().value?.step ?? 0;
      const info = {
        kind: 'training-state',
        formatVersion: 1,
        imported: true,
        precond: state.net.spec,
        optimizer: state.optimizer,
        nimg: nimgOf(file),
        step,
      };
      const named = (prefix: string, tensors: ReadonlyMap<string, Tensor>) =>
        [...tensors].map(([name, tensor]): [string, Tensor] => [prefix + name, tensor]);
      const tensors = [
        ...named('net.', net.stateDict()),
        ...named('ema.', ema.stateDict()),
        ...named('adam.', moments),
      ];
      await writeSafetensors(out, tensors, { [METADATA_KEY]: JSON.stringify(info) });
      return result('training-state', out, state.net, info.nimg);
    } finally {
      net.dispose();
      ema.dispose();
      for (const tensor of moments.values()) tensor.dispose();
    }
  });
}

/** The optimiser's state under the names of ours. Our Adam has one step count, so all parameters must agree. */
function adamState(
  moments: ReadonlyMap<string, OfficialMoments>,
  parameters: readonly (readonly [string, Tensor])[],
  file: string,
): Map<string, Tensor> {
  const steps = new Set([...moments.values()].map(({ step }) => step));
  if (steps.size > 1) {
    throw new UserError(
      'STATE_MISMATCH',
      `${file}: the optimiser counts different steps for different parameters, so it cannot go on here; use its network snapshot with --transfer`,
    );
  }
  const dict = new Map<string, Tensor>();
  for (const field of ['expAvg', 'expAvgSq'] as const) {
    const prefix = field === 'expAvg' ? 'exp_avg' : 'exp_avg_sq';
    for (const [name, { shape }] of parameters) {
      dict.set(`${prefix}.${name}`, moments.get(name)?.[field].toTensor() ?? torch.zeros(shape));
    }
  }
  return dict.set('step', torch.tensor([...steps][0] ?? 0, { dtype: 'float32' }));
}

function result(
  kind: ImportResult['kind'],
  file: string,
  { spec, tensors }: OfficialNetwork,
  nimg: number,
): ImportResult {
  return { kind, file, precond: spec, nimg, tensors: tensors.length };
}
