/** What a path is: a run, a folder of runs, a tensor file, or a data set. Reads headers only, changes nothing. */

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import type { DatasetInfo } from '../data/dataset-info.js';
import type { LatentFileInfo } from '../data/latents.js';
import type { OfficialCheckpoint } from '../interchange/official-checkpoint.js';
import type { Extent } from '../patches/extent.js';
import {
  listRuns,
  listSnapshots,
  newestState,
  type RunInfo,
  type RunJson,
  readRunJson,
} from '../run/runs.js';
import { formatBytes, formatCount, formatSec, table } from './terminal.js';

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
  readonly state: string | null;
  readonly error?: string;
  readonly config: RunJson['config'];
}

/** Kinds of tensor files, in words. */
const TENSOR_KINDS = {
  snapshot: 'snapshot',
  state: 'training state',
  latents: 'latents',
  safetensors: 'safetensors of another program',
  'official-snapshot': 'official snapshot',
  'official-state': 'official training state',
  'state-dict': 'PyTorch state dict',
} as const;

export interface TensorFileDescription {
  readonly kind: keyof typeof TENSOR_KINDS;
  readonly path: string;
  readonly bytes: number;
  readonly tensors: number;
  /** Elements of all tensors. */
  readonly elements: number;
  /** What the file says of itself; null where it says nothing. */
  readonly description: Readonly<Record<string, unknown>> | null;
}

/** A data set, as `datasetInfo` sees it. */
export type DataDescription = { readonly kind: 'data'; readonly data: DatasetInfo };

export interface RunsDescription {
  readonly kind: 'runs';
  readonly path: string;
  readonly runs: readonly RunDescription[];
}

export type Description = RunDescription | RunsDescription | TensorFileDescription | DataDescription;

/** A heartbeat older than this: the process is gone. */
const KILLED_AFTER_SEC = 120;

/** @throws {UserError} when the path is none of these */
export async function describePath(path: string, options: { verify?: boolean } = {}): Promise<Description> {
  const info = await stat(path).catch(() => null);
  if (info === null) throw new UserError('NOT_FOUND', `${path} does not exist; check the path`);
  if (info.isDirectory()) {
    const json = await readRunJson(path);
    if (json !== null) return describeRun({ dir: path, json });
    const runs = await listRuns(path);
    if (runs.length > 0) return { kind: 'runs', path, runs: await Promise.all(runs.map(describeRun)) };
  } else if (path.endsWith('.safetensors')) return describeTensorFile(path, info.size);
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
  const last = await lastStats(dir);
  const silentSec = (Date.now() - Date.parse(json.heartbeat)) / 1000;
  return {
    kind: 'run',
    path: dir,
    status: json.status === 'running' && silentSec > KILLED_AFTER_SEC ? 'killed' : json.status,
    data: json.config.data,
    preset: json.config.preset,
    step: json.step,
    nimg: json.nimg,
    totalNimg: json.totalNimg,
    startedAt: json.startedAt,
    heartbeat: json.heartbeat,
    loss: last?.['Loss/loss']?.mean ?? null,
    trainedSec: last?.['Timing/total_sec']?.mean ?? null,
    snapshots: await listSnapshots(dir),
    state: await newestState(dir),
    ...(json.error === undefined ? {} : { error: json.error }),
    config: json.config,
  };
}

async function lastStats(dir: string): Promise<Record<string, { mean: number }> | null> {
  const text = await readFile(join(dir, 'stats.jsonl'), 'utf8').catch(() => '');
  const line = text.slice(0, text.lastIndexOf('\n')).split('\n').at(-1) ?? '';
  try {
    return JSON.parse(line) as Record<string, { mean: number }>;
  } catch {
    return null;
  }
}

async function describeTensorFile(path: string, bytes: number): Promise<TensorFileDescription> {
  const { readMetadata, readTensorHeader } = await import('../formats/file-description.js');
  const header = readTensorHeader(path);
  const description = readMetadata(header, path) as Record<string, unknown>;
  const kinds = { snapshot: 'snapshot', 'training-state': 'state', latents: 'latents' } as const;
  return {
    kind: kinds[description.kind as keyof typeof kinds] ?? 'safetensors',
    path,
    bytes,
    ...countTensors([...header.entries.values()].map(({ shape }) => shape)),
    description: Object.keys(description).length === 0 ? null : description,
  };
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

/** The description as a table. */
export function infoText(info: Description): string {
  switch (info.kind) {
    case 'run':
      return runText(info);
    case 'runs':
      return info.runs.map((r) => `${r.path}  ${r.status}  ${kimg(r)}  ${r.data}`).join('\n');
    case 'data':
      return dataText(info);
    default:
      return tensorText(info);
  }
}

const kimg = (r: RunDescription): string =>
  `${(r.nimg / 1000).toFixed(1)}/${(r.totalNimg / 1000).toFixed(1)} kimg`;

function runText(r: RunDescription): string {
  const rows: [string, string][] = [
    ['Run', r.path],
    ['Status', r.error === undefined ? r.status : `${r.status}: ${r.error}`],
    ['Data', r.data],
    ['Preset', r.preset],
    ['Progress', `${kimg(r)}, ${formatCount(r.step)} updates`],
    ['Loss', r.loss === null ? '–' : r.loss.toFixed(4)],
    ['Trained for', r.trainedSec === null ? '–' : formatSec(r.trainedSec)],
    ['Started', r.startedAt],
    [
      'Snapshots',
      r.snapshots.length === 0 ? 'none yet' : `${r.snapshots.length}, newest ${r.snapshots.at(-1)}`,
    ],
    ['State', r.state ?? 'none yet'],
  ];
  if (r.status !== 'done' && r.status !== 'running' && r.state !== null) {
    rows.push(['Go on with', `${programName()} train --resume ${r.path}`]);
  }
  return table(rows);
}

function tensorText(t: TensorFileDescription): string {
  const d = t.description as {
    train?: { preset?: string; data?: string };
    precond?: { image?: Extent; network?: { type?: string; imgResolution?: number } };
    nimg?: number;
    step?: number;
  } | null;
  const rows: [string, string][] = [
    ['File', t.path],
    ['Kind', TENSOR_KINDS[t.kind]],
    ['Tensors', `${formatCount(t.tensors)}, ${formatCount(t.elements)} elements, ${formatBytes(t.bytes)}`],
  ];
  if (t.kind === 'latents') rows.push(...latentRows(t.description as unknown as LatentFileInfo));
  const network = d?.precond?.network;
  if (network?.type !== undefined) {
    const side = network.imgResolution ?? 0;
    const { width, height } = d?.precond?.image ?? { width: side, height: side };
    rows.push(['Network', `${network.type}, ${width}×${height} px`]);
  }
  if (d?.train?.preset !== undefined) rows.push(['Preset', d.train.preset]);
  if (d?.train?.data !== undefined) rows.push(['Trained on', d.train.data]);
  if (d?.nimg !== undefined)
    rows.push(['Progress', `${(d.nimg / 1000).toFixed(1)} kimg, ${formatCount(d.step ?? 0)} updates`]);
  return table(rows);
}

function latentRows(l: LatentFileInfo): [string, string][] {
  const { width, height } = l.image;
  const { skippedCount = l.source.skipped.length } = l.source;
  return [
    ['Latents', `${width / l.downFactor}×${height / l.downFactor}, of images of ${width}×${height} px`],
    ['Labels', l.labelDim === 0 ? 'none' : `${l.labelDim} classes`],
    [
      'Deviation',
      `${l.std.toPrecision(3)} (per channel: ${l.channelStd.map((s) => s.toPrecision(3)).join(', ')})`,
    ],
    ['Made from', l.source.path],
    ...(skippedCount === 0
      ? []
      : [['Left out', `${formatCount(skippedCount)} files`] satisfies [string, string]]),
    ['Autoencoder', l.autoencoder.path],
  ];
}

/** Sizes and classes that are listed; the rest is counted. */
const LISTED = 8;

function list(items: readonly string[]): string {
  const more = items.length - LISTED;
  return items.slice(0, LISTED).join(', ') + (more > 0 ? `, … (${formatCount(more)} more)` : '');
}

function dataText({ data: d }: DataDescription): string {
  const sizes = d.sizes.map(
    (s) => `${s.width}×${s.height}${d.sizes.length > 1 ? ` (${formatCount(s.count)})` : ''}`,
  );
  const classes = d.labels?.classes?.map((c) => `${c.name ?? c.index} (${formatCount(c.count)})`);
  const rows: [string, string][] = [
    ['Data', `${d.path} (${d.kind}${d.isPrepared ? ', prepared' : ''})`],
    [
      'Images',
      `${formatCount(d.count)}, ${{ 1: 'grey', 3: 'colour', 4: 'colour with transparency' }[d.channels]}`,
    ],
    ['Sizes in px', list(sizes)],
    [
      'Labels',
      d.labels === null
        ? 'none'
        : `${d.labels.dim} ${classes === undefined ? 'values per image' : `classes: ${list(classes)}`}`,
    ],
    ['Bytes', formatBytes(d.bytes)],
  ];
  if (d.skipped.length > 0) rows.push(['Not usable', `${formatCount(d.skipped.length)} files:`]);
  // All of them, so that a script can act on each.
  const skipped = d.skipped.map(({ file, reason }) => `  ${file}: ${reason}`);
  const warnings = d.warnings.map((warning): [string, string] => ['Warning', warning]);
  return [table([...warnings, ...rows]), ...skipped].join('\n');
}
