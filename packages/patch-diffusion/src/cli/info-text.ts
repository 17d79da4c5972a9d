/** The description of a path as a table for people. */

import { oneLine } from '../common/printable.js';
import { programName } from '../common/program-name.js';
import type { DatasetInfo } from '../data/dataset-info.js';
import type { LatentFileInfo } from '../data/latents.js';
import { describeLabels } from '../data/sample-labels.js';
import type { PatchSuggestion } from '../evaluation/suggest-patches.js';
import type { Extent } from '../patches/extent.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import {
  type DataDescription,
  type Description,
  type LabelDescription,
  labelDescription,
  type RunDescription,
  type TensorFileDescription,
  type TensorFileKind,
} from './info.js';
import { formatBytes, formatCount, formatSec, table } from './terminal.js';

const TENSOR_KINDS: Record<TensorFileKind, string> = {
  snapshot: 'snapshot',
  state: 'training state',
  latents: 'latents',
  safetensors: 'safetensors of another program',
  'official-snapshot': 'official snapshot',
  'official-state': 'official training state',
  'state-dict': 'PyTorch state dict',
};

/** The description as a table. */
export function infoText(info: Description): string {
  switch (info.kind) {
    case 'run':
      return runText(info);
    case 'runs':
      return info.runs.map((r) => oneLine(`${r.path}  ${r.status}  ${kimg(r)}  ${r.data}`)).join('\n');
    case 'data':
      return dataText(info);
    default:
      return tensorText(info);
  }
}

/** The table behind proposed patch sizes, and the option that takes them. */
export function suggestionText({ windowsPx, levels, sizes }: PatchSuggestion): string {
  const heads = windowsPx.map((px, i) => (i === windowsPx.length - 1 ? 'whole' : `${px} px`));
  const head = ['σ', ...heads, 'enough', 'patch'].map((text) => text.padStart(7)).join(' ');
  const lines = levels.map(({ sigma, losses, windowPx, patchPx }) =>
    [
      String(sigma),
      ...losses.map((loss) => Math.sqrt(loss).toFixed(3)),
      heads[windowsPx.indexOf(windowPx)],
      `${patchPx} px`,
    ]
      .map((text) => text.padStart(7))
      .join(' '),
  );
  return [
    'Error of the best denoiser that sees a window around each pixel (root mean square, pixels −1 to 1)',
    [head, ...lines].join('\n'),
    `Proposed: --patch-sizes ${sizes.map(({ sidePx, probability }) => `${sidePx}:${probability}`).join(',')}`,
  ].join('\n\n');
}

const kimg = (r: RunDescription): string =>
  `${(r.nimg / 1000).toFixed(1)}/${(r.totalNimg / 1000).toFixed(1)} kimg`;

/** What the reasons in run.json mean. */
const ENDINGS: Readonly<Record<string, string>> = {
  duration: 'its planned length is reached',
  time: 'its time limit is reached',
  memorising: 'its samples became copies of training images',
  interrupted: 'it was asked to stop, and saved',
};

/** The status, and why a run ended. */
function statusText({ status, reason, error, heartbeat }: RunDescription): string {
  const why =
    error ?? (status === 'killed' ? `no sign of life since ${heartbeat}` : reason && ENDINGS[reason]);
  return why ? `${status}: ${why}` : status;
}

function runText(r: RunDescription): string {
  const rows: [string, string][] = [
    ['Run', r.path],
    ['Status', statusText(r)],
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
  if (r.best !== null)
    rows.splice(-1, 0, ['Best', `${r.best.file}, held-out loss ${r.best.heldOutLoss.toFixed(4)}`]);
  if (r.labels !== null) rows.push(['Labels', labelText(r.labels)]);
  if (r.status !== 'done' && r.status !== 'running' && r.state !== null) {
    rows.push(['Continue with', `${programName()} train --resume ${r.path}`]);
  }
  return table(rows);
}

function tensorText(t: TensorFileDescription): string {
  const d = t.description as {
    train?: { preset?: string; data?: string };
    precond?: { image?: Extent; network?: { type?: string; imgResolution?: number; labelDim?: number } };
    dataset?: SnapshotInfo['dataset'];
    nimg?: number;
    step?: number;
  } | null;
  const rows: [string, string][] = [
    ['File', t.path],
    ['Kind', TENSOR_KINDS[t.kind]],
    ['Tensors', `${formatCount(t.tensors)}, ${formatCount(t.elements)} elements, ${formatBytes(t.bytes)}`],
  ];
  if (t.kind === 'latents') rows.push(...latentRows(t));
  const network = d?.precond?.network;
  if (network?.type !== undefined) {
    const side = network.imgResolution ?? 0;
    const { width, height } = d?.precond?.image ?? { width: side, height: side };
    rows.push(['Network', `${network.type}, ${width}×${height} px`]);
  }
  const labels = t.kind === 'snapshot' && d ? labelDescription(d) : null;
  if (labels) rows.push(['Labels', labelText(labels)]);
  if (d?.train?.preset !== undefined) rows.push(['Preset', d.train.preset]);
  if (d?.train?.data !== undefined) rows.push(['Trained on', d.train.data]);
  if (d?.nimg !== undefined)
    rows.push(['Progress', `${(d.nimg / 1000).toFixed(1)} kimg, ${formatCount(d.step ?? 0)} updates`]);
  return table(rows);
}

function latentRows({ description, hasLabelVectors }: TensorFileDescription): [string, string][] {
  const l = description as unknown as LatentFileInfo;
  const { width, height } = l.image;
  const { skippedCount = l.source.skipped.length } = l.source;
  return [
    ['Latents', `${width / l.downFactor}×${height / l.downFactor}, of images of ${width}×${height} px`],
    [
      'Labels',
      hasLabelVectors
        ? `${l.labelDim} numbers per image`
        : labelText({ dim: l.labelDim, classNames: l.classNames, labels: null }),
    ],
    [
      'Deviation',
      `${l.std.toPrecision(3)} (per channel: ${l.channelStd.map((s) => s.toPrecision(3)).join(', ')})`,
    ],
    ['Made from', l.source.path],
    ...(skippedCount > 0 ? [['Left out', `${formatCount(skippedCount)} files`] as [string, string]] : []),
    ['Autoencoder', l.autoencoder.path],
  ];
}

/** Sizes and classes that are listed; the rest is counted. */
const LISTED = 8;

function list(items: readonly string[]): string {
  const more = items.length - LISTED;
  return items.slice(0, LISTED).join(', ') + (more > 0 ? `, … (${formatCount(more)} more)` : '');
}

/** `3 classes: cat, dog, owl`. */
function labelText({ dim, classNames, labels }: LabelDescription): string {
  const text = describeLabels(dim, labels);
  if (typeof labels?.[0] === 'object') return `${text}, such as ${labels[0].join(',')}`;
  const classes = (labels as readonly number[] | null)?.map((index) => classNames?.[index] ?? String(index));
  const names = classes ?? classNames;
  return names === null ? text : `${text}: ${list(names)}`;
}

function dataLabels(labels: DatasetInfo['labels']): string {
  if (labels === null) return 'none';
  if (labels.classes === null) return `${labels.dim} numbers per image`;
  const used = labels.classes.filter(({ count }) => count > 0);
  const indices = used.length === labels.dim ? null : used.map(({ index }) => index);
  const names = used.map(({ name, index, count }) => `${name ?? index} (${formatCount(count)})`);
  return `${describeLabels(labels.dim, indices)}: ${list(names)}`;
}

function dataText({ data: d }: DataDescription): string {
  const sizes = d.sizes.map(
    (s) => `${s.width}×${s.height}${d.sizes.length > 1 ? ` (${formatCount(s.count)})` : ''}`,
  );
  const rows: [string, string][] = [
    ['Data', `${d.path} (${d.kind}${d.isPrepared ? ', prepared' : ''})`],
    [
      'Images',
      `${formatCount(d.count)}, ${{ 1: 'grey', 3: 'colour', 4: 'colour with transparency' }[d.channels]}`,
    ],
    ['Sizes in px', list(sizes)],
    ['Labels', dataLabels(d.labels)],
    ['Bytes', formatBytes(d.bytes)],
  ];
  if (d.skipped.length > 0) rows.push(['Not usable', `${formatCount(d.skipped.length)} files:`]);
  // All of them, so that a script can act on each.
  const skipped = d.skipped.map(({ file, reason }) => `  ${oneLine(`${file}: ${reason}`)}`);
  const warnings = d.warnings.map((warning): [string, string] => ['Warning', warning]);
  return [table([...warnings, ...rows]), ...skipped].join('\n');
}
