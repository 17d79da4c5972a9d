/** What a run was made with, and the command that makes it again. */
import { basename } from 'node:path';
import { programName } from '../common/program-name.js';
import { EMA_LENGTHS, type Field, type PatchSide } from '../config/fields.js';
import { type Preset, presets } from '../config/presets.js';
import { kebab } from '../config/read-values.js';
import { trainFields } from '../config/train-options.js';
import { bestSnapshot } from '../run/evaluations.js';
import { nimgInName } from '../run/file-names.js';
import { listAverages, listNearest, listSheets, listSnapshots, type RunJson } from '../run/runs.js';
import type { OptionValue, RunDetail, StampedFile } from './api.js';
import { heldOutLosses } from './series.js';

/** Options that say where a run came from or goes to, not what it is. */
const NOT_REPEATED = new Set(['resume', 'allowDataChange', 'out', 'desc', 'nosubdir', 'preset', 'data']);

/** Everything of a run but its curves. @param json null where `run.json` is damaged */
export async function readDetail(id: string, dir: string, json: RunJson | null): Promise<RunDetail> {
  const [sheets, nearest, snapshots, averages, best] = await Promise.all([
    listSheets(dir),
    listNearest(dir),
    listSnapshots(dir),
    listAverages(dir),
    bestSnapshot(dir, heldOutLosses),
  ]);
  return {
    ...{ id, dir, sheets: sheets.map(stamped), snapshots: snapshots.map(stamped) },
    nearest: nearest.map(stamped),
    best: best && basename(best.file),
    emaLengths: averages.length > 0 ? EMA_LENGTHS : null,
    options: json === null ? [] : optionValues(json.config),
    command: json === null ? '' : repeatCommand(json.config),
    workingFolder: json?.workingFolder ?? null,
  };
}

const stamped = (file: string): StampedFile => ({ name: basename(file), kimg: nimgInName(file) / 1000 });

/** The options of a run in the order of the help page; those that this version does not know at the end. */
export function optionValues(config: Readonly<Record<string, unknown>>): OptionValue[] {
  const defaults = defaultsFor(config);
  const known = Object.entries(trainFields as Readonly<Record<string, Field>>).flatMap(([key, field]) => {
    const { heading, description } = field;
    if (!(key in config)) return []; // written by an earlier version
    const value = optionText(config[key], field);
    const isDefault = key in defaults && value === optionText(defaults[key], field);
    return [{ name: kebab(key), value, heading, description, isDefault }];
  });
  const unknown = Object.entries(config).flatMap(([key, value]) => {
    const about = { heading: 'Other', description: 'Unknown to this version', isDefault: false };
    return key in trainFields ? [] : [{ name: kebab(key), value: JSON.stringify(value), ...about }];
  });
  return [...known, ...unknown];
}

/** The command that starts the same run: data, preset, seed, and whatever differs from the preset. */
export function repeatCommand(config: Readonly<Record<string, unknown>>): string {
  const differing = optionValues(config).filter(
    ({ name, isDefault, heading }) => !isDefault && heading !== 'Other' && !NOT_REPEATED.has(camel(name)),
  );
  const flags = [
    ...(['data', 'preset'] as const).map((key) => `--${key} ${quoted(String(config[key]))}`),
    ...differing.map(({ name, value }) => (value === 'true' ? `--${name}` : `--${name} ${quoted(value)}`)),
  ];
  return `${programName()} train ${flags.join(' ')}`;
}

const camel = (name: string): string => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());

function defaultsFor({ preset }: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const known: ReadonlyMap<unknown, Preset> = new Map(Object.entries(presets));
  return known.get(preset)?.values ?? {};
}

/** A value as it is written on the command line. */
function optionText(value: unknown, { kind, nullWord }: Field): string {
  if (value === null || value === undefined) return nullWord ?? 'none';
  if (kind === 'size' && typeof value === 'object') {
    const { width, height } = value as { width: unknown; height: unknown };
    return `${width}x${height}`;
  }
  if (!Array.isArray(value)) return String(value);
  if (kind === 'patches') return value.map((side) => patchText(side as PatchSide)).join(',');
  return value.length === 0 ? 'none' : value.join(',');
}

const patchText = ({ sidePx, probability }: PatchSide): string =>
  probability === null ? String(sidePx) : `${sidePx}:${probability}`;

/** As a shell takes it. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
