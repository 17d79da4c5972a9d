/**
 * Reads option values from one source (flags, a config file, a library call) into checked, typed values.
 * Knows names and aliases, converts text and units, and words every complaint: option, value, what is allowed.
 */

import type { z } from 'zod';
import { nearest, UserError } from '../common/errors.js';
import { type FieldInfo, fieldInfo } from './fields.js';

export type Fields = Readonly<Record<string, z.ZodType>>;

/** Where values come from; words error messages. */
export type Origin =
  | { readonly kind: 'flag' }
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'call' };

export const usageError = (code: string, message: string): UserError =>
  new UserError(code, message, { exitCode: 2 });

/** `realP` → `real-p`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** Folds the ways to write a name (`real_p`, `real-p`, `realP`, `S_churn`) into one. */
export const foldName = (name: string): string =>
  kebab(name).replace(/_/g, '-').replace(/^-+/, '').replace(/-+/g, '-');

interface Target {
  readonly key: string;
  readonly scale: number;
}

/** Every accepted name, folded, with the option that it stands for. */
export function nameTable(fields: Fields): Map<string, Target> {
  const table = new Map<string, Target>();
  for (const [key, schema] of Object.entries(fields)) {
    table.set(foldName(key), { key, scale: 1 });
    for (const alias of fieldInfo(schema).aliases)
      table.set(foldName(alias.name), { key, scale: alias.scale ?? 1 });
  }
  return table;
}

function shown(name: string, origin: Origin): string {
  if (origin.kind === 'flag') return `--${foldName(name)}`;
  return origin.kind === 'file' ? `"${name}" in ${origin.file}` : `option "${name}"`;
}

function showValue(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value);
  const text = typeof value === 'string' ? `"${value}"` : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** The error for a name that no option has. */
export function unknownName(name: string, fields: Fields, origin: Origin): UserError {
  const names = Object.entries(fields).flatMap(([key, schema]) => [
    key,
    ...fieldInfo(schema).aliases.map((a) => a.name),
  ]);
  const near = nearest(name, names);
  let hint = origin.kind === 'flag' ? 'see --help' : 'see the list of options in the documentation';
  if (near !== undefined)
    hint = `did you mean ${origin.kind === 'flag' ? `--${foldName(near)}` : `"${near}"`}?`;
  return usageError('UNKNOWN_OPTION', `unknown option ${shown(name, origin)}; ${hint}`);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function toNumber(text: string): number {
  const t = text.trim();
  if (NUMBER.test(t)) return Number(t);
  return /^\+?inf(inity)?$/i.test(t) ? Number.POSITIVE_INFINITY : Number.NaN;
}

/** `1,2,5-7` → [1, 2, 5, 6, 7]; brackets and blanks are tolerated. NaN marks what cannot be read. */
export function parseIntList(text: string): number[] {
  const body = text
    .trim()
    .replace(/^\[(.*)\]$/s, '$1')
    .trim();
  if (body === '' || body === 'none') return [];
  const out: number[] = [];
  for (const part of body.split(',')) {
    const range = /^\s*(\d+)\s*-\s*(\d+)\s*$/.exec(part);
    if (range === null) {
      out.push(toNumber(part));
      continue;
    }
    const [low, high] = [Number(range[1]), Number(range[2])];
    if (high < low || high - low > 10_000_000) return [Number.NaN];
    for (let i = low; i <= high; i++) out.push(i);
  }
  return out;
}

/** `16:0.2,32:0.3` or `16,32`; NaN marks what cannot be read. */
function parsePatches(text: string): { sidePx: number; probability: number | null }[] {
  return text.split(',').map((part) => {
    const [side = '', probability, ...more] = part.split(':');
    const p = probability === undefined ? null : toNumber(probability);
    return { sidePx: toNumber(side), probability: more.length ? Number.NaN : p };
  });
}

const BOOLEANS = new Map<string, boolean>([
  ['1', true],
  ['true', true],
  ['yes', true],
  ['on', true],
  ['0', false],
  ['false', false],
  ['no', false],
  ['off', false],
]);

/** Is this text one of the words that a boolean flag accepts? */
export const isBooleanWord = (text: string): boolean => BOOLEANS.has(text.toLowerCase());

/** The truth value of such a word; undefined for any other text. */
export const toBoolean = (text: string): boolean | undefined => BOOLEANS.get(text.toLowerCase());

/** Text, or a loosely typed file value, to the kind that the option has. What does not fit is passed on for zod to refuse. */
function convert(value: unknown, info: FieldInfo): unknown {
  if (value === null) return value;
  if (value === true && info.bare !== undefined) return info.bare;
  if (info.kind === 'boolean' && (value === 0 || value === 1)) return value === 1;
  if ((info.kind === 'ints' || info.kind === 'seeds') && typeof value === 'number') return [value];
  if (typeof value !== 'string') return value;
  const text = value.trim();
  if (info.nullWord !== undefined && text.toLowerCase() === info.nullWord) return null;
  switch (info.kind) {
    case 'int':
    case 'number':
      return info.choices?.includes(text) ? text : toNumber(text);
    case 'boolean':
      return toBoolean(text) ?? text;
    case 'ints':
    case 'seeds':
      return parseIntList(text);
    case 'size': {
      const pair = /^(\d+)\s*[x×,]\s*(\d+)$/i.exec(text);
      return pair === null ? toNumber(text) : { width: Number(pair[1]), height: Number(pair[2]) };
    }
    case 'patches':
      return parsePatches(text);
    case 'numbers':
      return text
        .replace(/^\[(.*)\]$/s, '$1')
        .split(',')
        .map(toNumber);
    default:
      return value;
  }
}

/**
 * Checks the values of one source and returns them under their own keys and in their own units.
 *
 * @param values name → value; names may be aliases. `undefined` values are ignored.
 * @throws {UserError} (exit code 2) on an unknown name, a value out of range, or one option given twice under
 *   different names; the message names the option, the value and what is allowed.
 */
export function readValues(
  fields: Fields,
  values: Readonly<Record<string, unknown>>,
  origin: Origin,
): Record<string, unknown> {
  const table = nameTable(fields);
  const out: Record<string, unknown> = {};
  const givenAs = new Map<string, string>();
  for (const [name, raw] of Object.entries(values)) {
    if (raw === undefined) continue;
    const target = table.get(foldName(name));
    if (target === undefined) throw unknownName(name, fields, origin);
    const { key, scale } = target;
    const before = givenAs.get(key);
    if (before !== undefined) {
      const pair = `${shown(before, origin)} and ${shown(name, origin)}`;
      throw usageError('OPTION_GIVEN_TWICE', `${pair} are the same option; give one of them`);
    }
    givenAs.set(key, name);
    const schema = fields[key]!;
    const info = fieldInfo(schema);
    let value = origin.kind === 'call' ? raw : convert(raw, info);
    if (typeof value === 'number' && scale !== 1) value *= scale;
    const result = schema.safeParse(value);
    if (!result.success) {
      const unit = info.unit !== undefined && scale === 1 ? `, in ${info.unit}` : '';
      const problem = `${shown(name, origin)}: ${showValue(raw)} is not allowed`;
      throw usageError(
        'BAD_OPTION',
        `${problem}; use ${scaledRange(info, scale)}${unit}${didYouMean(raw, info)}`,
      );
    }
    out[key] = result.data;
  }
  return out;
}

function scaledRange(info: FieldInfo, scale: number): string {
  if (scale === 1) return info.allowed;
  const unit = info.aliases.find((a) => a.scale === scale)?.unit;
  return `${info.allowed}${unit === undefined ? '' : `, in ${unit}`}`;
}

function didYouMean(value: unknown, info: FieldInfo): string {
  if (typeof value !== 'string' || info.kind !== 'choice' || info.choices === undefined) return '';
  const near = info.choices.length > 1 ? nearest(value, info.choices) : undefined;
  return near === undefined ? '' : `; did you mean ${near}?`;
}
