/** What a path is: a run, a folder of runs, a tensor file, or a data set. Reads headers only, changes nothing. */

import { stat } from 'node:fs/promises';
import type { SafetensorsHeader } from '@patch-diffusion/torch/safetensors-header';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { DatasetInfo } from '../data/dataset-info.js';
import type { Label } from '../diffusion/labels.js';
import { checkContents, checkFields, readMetadata, readTensorHeader } from '../formats/file-description.js';
import type { OfficialCheckpoint } from '../interchange/official-checkpoint.js';
import { type BestSnapshot, bestSnapshot } from '../run/evaluations.js';
import { readyMadeNetwork } from '../run/ready-made.js';
import {
  listRuns,
  listSnapshots,
  liveStatus,
  newestState,
  type RunInfo,
  type RunJson,
  readRunJson,
} from '../run/runs.js';
import { readSnapshotInfo, type SnapshotInfo, snapshotInfo } from '../run/snapshot-info.js';
import { readStats, type Stat } from '../run/stats.js';

export interface RunDescription {
  readonly kind: 'run';
  readonly path: string;
  /** As recorded; "killed" when it says running but its process gives no sign of life. */
  readonly status: RunJson['status'] | 'killed';
  readonly data: string;
  readonly preset: string;
  readonly step: number;
  readonly nimg: number;
  readonly totalNimg: number;
  readonly startedAt: string;
  readonly heartbeat: string;
  readonly loss: number | null;
  readonly trainedSec: number | null;
  readonly snapshots: readonly string[];
  /** The one with the lowest held-out loss; null where none was measured. */
  readonly best: BestSnapshot | null;
  readonly state: string | null;
  /** Why it ended, as in run.json. */
  readonly reason?: string;
  readonly error?: string;
  /** Of the newest snapshot; null without one, and for a network without labels. */
  readonly labels: LabelDescription | null;
  readonly config: RunJson['config'];
}

/** `safetensors`: of another program. The last three are files of PyTorch. */
export type TensorFileKind =
  | 'snapshot'
  | 'state'
  | 'latents'
  | 'safetensors'
  | 'official-snapshot'
  | 'official-state'
  | 'state-dict';

export interface TensorFileDescription {
  readonly kind: TensorFileKind;
  readonly path: string;
  readonly bytes: number;
  readonly tensors: number;
  /** Elements of all tensors. */
  readonly elements: number;
  /** Whether latents have label vectors and not classes. */
  readonly hasLabelVectors?: boolean;
  /** What the file says of itself; null where it says nothing. */
  readonly description: Readonly<Record<string, unknown>> | null;
}

/** The labels that a network was trained with. */
export interface LabelDescription {
  /** Number of classes, or of numbers in a label. */
  readonly dim: number;
  readonly classNames: readonly string[] | null;
  /** The classes that have images, where some have none, or label vectors of images. */
  readonly labels: readonly Label[] | null;
}

/** A data set, as `datasetInfo` sees it. */
export type DataDescription = { readonly kind: 'data'; readonly data: DatasetInfo };

export interface RunsDescription {
  readonly kind: 'runs';
  readonly path: string;
  readonly runs: readonly RunDescription[];
}

export type Description = RunDescription | RunsDescription | TensorFileDescription | DataDescription;

/** @throws {UserError} when the path is none of these */
export async function describePath(named: string, options: { verify?: boolean } = {}): Promise<Description> {
  const path = readyMadeNetwork(named) ?? named;
  const info = await stat(path).catch(() => null);
  if (info === null) throw new UserError('NOT_FOUND', `${path} does not exist; check the path`);
  if (info.isDirectory()) {
    const json = await readRunJson(path);
    if (json !== null) return describeRun({ dir: path, json });
    const runs = await listRuns(path);
    if (runs.length > 0) return { kind: 'runs', path, runs: await Promise.all(runs.map(describeRun)) };
  } else if (path.endsWith('.safetensors')) return describeTensorFile(path, info.size, options);
  else if (/\.(pkl|pt)$/.test(path)) return describeCheckpoint(path, info.size);
  const { datasetInfo } = await import('../data/dataset-info.js');
  try {
    return { kind: 'data', data: await datasetInfo(path, options) };
  } catch (error) {
    if ((error as UserError).code !== 'DATA_KIND') throw error;
    throw new UserError(
      'UNKNOWN_KIND',
      `${path} is of no kind that info knows; name a run folder, a snapshot or state (.safetensors, or .pkl and .pt as import reads them), or a folder or zip of images`,
      { cause: error },
    );
  }
}

async function describeRun({ dir, json }: RunInfo): Promise<RunDescription> {
  const snapshots = await listSnapshots(dir);
  const last = (await readStats(dir)).at(-1);
  const mean = (name: string): number | null => {
    const value: unknown = (last?.[name] as Stat | undefined)?.mean;
    return typeof value === 'number' ? value : null;
  };
  return {
    kind: 'run',
    path: dir,
    status: liveStatus(json),
    data: json.config.data,
    preset: json.config.preset,
    step: json.step,
    nimg: json.nimg,
    totalNimg: json.totalNimg,
    startedAt: json.startedAt,
    heartbeat: json.heartbeat,
    loss: mean('Loss/loss'),
    trainedSec: mean('Timing/total_sec'),
    snapshots,
    best: await bestSnapshot(dir),
    state: await newestState(dir),
    reason: json.reason,
    error: json.error,
    labels: await labelsOf(snapshots.at(-1)),
    config: json.config,
  };
}

async function labelsOf(snapshot: string | undefined): Promise<LabelDescription | null> {
  const info = snapshot === undefined ? null : await readSnapshotInfo(snapshot).catch(() => null);
  return info && labelDescription(info);
}

/** What a snapshot says of labels; null where it has none. */
export function labelDescription({
  precond,
  dataset,
}: {
  readonly precond?: { readonly network?: { readonly labelDim?: number } };
  readonly dataset?: SnapshotInfo['dataset'];
}): LabelDescription | null {
  const dim = precond?.network?.labelDim ?? 0;
  return dim === 0 ? null : { dim, classNames: dataset?.classNames ?? null, labels: dataset?.labels ?? null };
}

async function describeTensorFile(
  path: string,
  bytes: number,
  { verify = false }: { verify?: boolean },
): Promise<TensorFileDescription> {
  const header = readTensorHeader(path);
  if (verify) await checkContents(path);
  const description = await descriptionOf(header, path);
  const kinds = { snapshot: 'snapshot', 'training-state': 'state', latents: 'latents' } as const;
  return {
    kind: kinds[description.kind as keyof typeof kinds] ?? 'safetensors',
    path,
    bytes,
    hasLabelVectors: header.entries.get('labels')?.shape.length === 2,
    ...countTensors([...header.entries.values()].map(({ shape }) => shape)),
    description: Object.keys(description).length === 0 ? null : description,
  };
}

const stateSchema = z.looseObject({
  precond: z.looseObject({ network: z.looseObject({ type: z.string(), imgResolution: z.number() }) }),
  ...{ nimg: z.number(), step: z.number() },
});

/** What a file says of itself, checked as far as it is shown. @throws UserError when it is damaged */
async function descriptionOf(header: SafetensorsHeader, file: string): Promise<Record<string, unknown>> {
  const description = readMetadata(header, file) as Record<string, unknown>;
  const what = `${file}: the description's field`;
  switch (description.kind) {
    case 'snapshot':
      return { ...snapshotInfo(header, file) };
    case 'latents': {
      const { latentFileSchema } = await import('../data/latents.js');
      return checkFields(latentFileSchema, description, what);
    }
    case 'training-state':
      return checkFields(stateSchema, description, what);
    default:
      return description;
  }
}

/** Files that `import` reads, and the state dicts of `export`. */
async function describeCheckpoint(path: string, bytes: number): Promise<TensorFileDescription> {
  const { withCheckpoint } = await import('../interchange/official-checkpoint.js');
  return withCheckpoint(path, (checkpoint) => {
    const { kind, precond, tensors } = contents(checkpoint);
    return {
      kind,
      path,
      bytes,
      ...countTensors(tensors.map((t) => t.tensor.shape)),
      description: precond && { precond },
    };
  });
}

function contents(checkpoint: OfficialCheckpoint) {
  switch (checkpoint.kind) {
    case 'snapshot':
      return {
        kind: 'official-snapshot',
        precond: checkpoint.ema.spec,
        tensors: checkpoint.ema.tensors,
      } as const;
    case 'training-state':
      return {
        kind: 'official-state',
        precond: checkpoint.net.spec,
        tensors: checkpoint.net.tensors,
      } as const;
    default:
      return { kind: 'state-dict', precond: null, tensors: checkpoint.tensors } as const;
  }
}

function countTensors(shapes: readonly (readonly number[])[]): { tensors: number; elements: number } {
  return {
    tensors: shapes.length,
    elements: shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0),
  };
}
