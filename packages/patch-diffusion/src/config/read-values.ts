/**
 * Reads option values from flags, a config file and a library call into checked, typed values. Knows names and
 * aliases, converts text and units, and words every complaint: option, value, what is allowed.
 */

import { inspect } from 'node:util';
import { nearest, type UserError, usageError } from '../common/errors.js';
import { oneLine } from '../common/printable.js';
import type { Field, Fields, Values } from './fields.js';

/** Where values come from, for error messages. */
type Origin = 'flag' | 'call' | { readonly file: string };

/** Values by name, not yet checked. */
export type RawValues = Readonly<Record<string, unknown>>;

/** Where options may come from. */
export interface OptionSources {
  /** Contents of a config file and its name, for messages. */
  readonly file?: { readonly name: string; readonly values: RawValues };
  /** Options of a library call: typed values. */
  readonly call?: RawValues;
  /** Command-line flags: text, as typed. */
  readonly flags?: RawValues;
}

/** `realP` → `real-p`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** Folds the ways to write a name (`real_p`, `real-p`, `realP`, `S_churn`) into one. */
export const foldName = (name: string): string =>
  kebab(name).replace(/_/g, '-').replace(/^-+/, '').replace(/-+/g, '-');

/** Every accepted name, folded, with the option that it stands for. */
export function nameTable(fields: Fields): Map<string, { readonly key: string; readonly scale: number }> {
  const table = new Map<string, { key: string; scale: number }>();
  for (const [key, { aliases }] of Object.entries(fields)) {
    table.set(foldName(key), { key, scale: 1 });
    for (const { name, scale = 1 } of aliases) table.set(foldName(name), { key, scale });
  }
  return table;
}

function shown(name: string, origin: Origin): string {
  if (origin === 'flag') return `--${shortened(foldName(name))}`;
  const quoted = shortened(JSON.stringify(name));
  return origin === 'call' ? `option ${quoted}` : `${quoted} in ${origin.file}`;
}

/** A value of any type on one line. */
function showValue(value: unknown): string {
  const isText = typeof value === 'string';
  return shortened(isText ? JSON.stringify(value) : inspect(value, { depth: 1, breakLength: Infinity }));
}

function shortened(text: string): string {
  const line = oneLine(text);
  return line.length > 60 ? `${line.slice(0, 57)}…` : line;
}

/** The error for a name that no option has. */
function unknownName(name: string, fields: Fields, origin: Origin): UserError {
  const names = Object.entries(fields).flatMap(([key, { aliases }]) => [key, ...aliases.map((a) => a.name)]);
  const near = nearest(name, names);
  const list = origin === 'flag' ? 'see --help' : 'see the list of options in the documentation';
  const hint =
    near === undefined ? list : `did you mean ${origin === 'flag' ? `--${foldName(near)}` : `"${near}"`}?`;
  return usageError('UNKNOWN_OPTION', `unknown option ${shown(name, origin)}; ${hint}`);
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function toNumber(text: string): number {
  const t = text.trim();
  if (NUMBER.test(t)) return Number(t);
  return /^\+?inf(inity)?$/i.test(t) ? Number.POSITIVE_INFINITY : Number.NaN;
}

const withoutBrackets = (text: string): string =>
  text
    .trim()
    .replace(/^\[(.*)\]$/s, '$1')
    .trim();

/** Longest list that ranges may make. */
const MAX_LIST = 10_000_000;

/** `1,2,5-7` → [1, 2, 5, 6, 7]; brackets and blanks are tolerated. NaN marks what cannot be read. */
export function parseIntList(text: string): number[] {
  const body = withoutBrackets(text);
  if (body === '' || body === 'none') return [];
  const out: number[] = [];
  for (const part of body.split(',')) {
    const range = /^\s*(\d+)\s*-\s*(\d+)\s*$/.exec(part);
    if (range === null) {
      out.push(toNumber(part));
      continue;
    }
    const [low, high] = [Number(range[1]), Number(range[2])];
    if (high < low || out.length + high - low > MAX_LIST) return [Number.NaN];
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

const TRUE = ['1', 'true', 'yes', 'on'];
const FALSE = ['0', 'false', 'no', 'off'];

/** The truth value of a word that a boolean flag accepts; undefined for any other text. */
export function toBoolean(text: string): boolean | undefined {
  const word = text.toLowerCase();
  if (TRUE.includes(word)) return true;
  return FALSE.includes(word) ? false : undefined;
}

/** Text, or a loosely typed file value, to the kind that the option has. What does not fit is passed on to be refused. */
function convert(value: unknown, field: Field): unknown {
  const { kind } = field;
  if (value === true && field.bare !== undefined) return field.bare;
  if (kind === 'boolean' && (value === 0 || value === 1)) return value === 1;
  if (['ints', 'numbers', 'seeds'].includes(kind) && typeof value === 'number') return [value];
  if (typeof value !== 'string') return value;
  const text = value.trim();
  if (field.nullWord !== undefined && text.toLowerCase() === field.nullWord) return null;
  if (kind === 'list') return text === '' ? [] : text.split(',').map((part) => part.trim());
  const choice = field.choices?.find((one) => String(one) === text);
  if (choice !== undefined) return choice;
  switch (kind) {
    case 'int':
    case 'number':
      return toNumber(text);
    case 'class':
      return /^\d+$/.test(text) ? Number(text) : text;
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
      return withoutBrackets(text).split(',').map(toNumber);
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
export function readValues<F extends Fields>(
  fields: F,
  values: RawValues,
  origin: Origin,
): Partial<Values<F>> {
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
    const field = fields[key];
    let value = origin === 'call' ? raw : convert(raw, field);
    if (typeof value === 'number') value *= scale;
    const result = field.schema.safeParse(value);
    if (!result.success) {
      const problem = `${shown(name, origin)}: ${showValue(raw)} is not allowed`;
      throw usageError(
        'BAD_OPTION',
        `${problem}; use ${allowedWords(field, scale)}${didYouMean(raw, field)}`,
      );
    }
    out[key] = result.data;
  }
  return out as Partial<Values<F>>;
}

function allowedWords(field: Field, scale: number): string {
  const unit = scale === 1 ? field.unit : field.aliases.find((alias) => alias.scale === scale)?.unit;
  return unit === undefined ? field.allowed : `${field.allowed}, in ${unit}`;
}

function didYouMean(value: unknown, { kind, choices = [] }: Field): string {
  if (typeof value !== 'string' || kind !== 'choice') return '';
  const near = nearest(value, choices.map(String));
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** Checks the values of all sources; flags override those of a call, and these those of a config file. */
export function readSources<F extends Fields>(
  fields: F,
  { file, call, flags }: OptionSources,
): Partial<Values<F>> {
  return Object.assign(
    {},
    file && readValues(fields, file.values, { file: file.name }),
    call && readValues(fields, call, 'call'),
    flags && readValues(fields, flags, 'flag'),
  );
}

/**
 * Every option with its value, in the order of the fields: the one given, else its default.
 *
 * @throws {UserError} (exit code 2) naming an option that has neither
 */
export function withDefaults<F extends Fields>(fields: F, given: Partial<Values<F>>): Values<F> {
  const entries = Object.entries(fields).map(([key, field]) => {
    const value: unknown = given[key] === undefined ? field.default : given[key];
    if (value !== undefined) return [key, value];
    const flag = `--${kebab(key)}`;
    throw usageError('MISSING_OPTION', `${flag} is missing; add ${flag} <${field.placeholder}>`);
  });
  return Object.fromEntries(entries) as Values<F>;
}

/** The defaults of the options that have one. */
export function defaultsOf<F extends Fields>(fields: F): Partial<Values<F>> {
  const entries = Object.entries(fields).map(([key, field]) => [key, field.default]);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as Partial<Values<F>>;
}
