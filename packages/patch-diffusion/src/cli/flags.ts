/**
 * Option fields ↔ command-line flags: adds the flags of a set of fields to a command, and rewrites the spellings
 * that people use (`--real_p`, `--xflip=1`, `--no-cache`, `--S_churn`) to the one that commander knows.
 */

import { type Command, Option } from 'commander';
import type { z } from 'zod';
import { type FieldInfo, fieldInfo } from '../config/fields.js';
import {
  type Fields,
  foldName,
  isBooleanWord,
  kebab,
  readValues,
  usageError,
} from '../config/read-values.js';

/** Flags that may stand alone, with the words that they take as a value. */
const switches = new WeakMap<Option, (word: string) => boolean>();

/** The values of a set of fields. */
type Values<F extends Fields> = { readonly [K in keyof F]: z.infer<F[K]> };

/** A default as the help page shows it. */
export function showDefault(value: unknown, info: FieldInfo): string | undefined {
  if (value === undefined) return undefined;
  if (value === null) return info.nullWord;
  if (info.kind === 'seeds' && Array.isArray(value)) {
    return value.length > 4 ? `${value[0]}-${value.at(-1)}` : value.join(',');
  }
  return Array.isArray(value) ? value.join(',') || 'none' : String(value);
}

function describe(info: FieldInfo, shownDefault: string | undefined): string {
  const isPlain =
    info.kind === 'path' || info.kind === 'text' || info.kind === 'boolean' || info.kind === 'choice';
  const details: string[] = [];
  const isSaying = shownDefault !== undefined && shownDefault !== 'none' && shownDefault !== 'false';
  if (!isPlain || info.choices !== undefined) {
    // The word for "not set" is shown once, here or as the default.
    const isShown = isSaying && shownDefault === info.nullWord;
    const range = isShown ? info.allowed.replace(/, or ".*"$/, '') : info.allowed;
    if (info.kind !== 'choice' || (info.choices?.length ?? 0) > 3) details.push(range.replace(/^an? /, ''));
  }
  if (info.unit !== undefined && info.placeholder !== info.unit) details.push(info.unit);
  if (isSaying) details.push(`default: ${shownDefault}`);
  if (info.aliases.length > 0) {
    const names = info.aliases.map((a) => `--${a.name}${a.unit === undefined ? '' : ` <${a.unit}>`}`);
    details.push(`also ${names.join(', ')}`);
  }
  return details.length === 0 ? info.description : `${info.description} (${details.join('; ')})`;
}

/** Adds a flag for each field, under its group's heading, and hidden ones for the aliases. */
export function addFields(
  command: Command,
  fields: Fields,
  defaults: Readonly<Record<string, unknown>>,
): void {
  for (const [key, schema] of Object.entries(fields)) {
    const info = fieldInfo(schema);
    const isOptional = info.kind === 'boolean' || info.bare !== undefined;
    const value = isOptional ? `[${info.placeholder}]` : `<${info.placeholder}>`;
    const short = info.short === undefined ? '' : `-${info.short}, `;
    const shown = showDefault(defaults[key], info);
    const add = (option: Option): void => {
      if (info.kind === 'boolean')
        switches.set(option, (word) => isBooleanWord(word) || info.choices?.includes(word) === true);
      command.addOption(option);
    };
    add(new Option(`${short}--${kebab(key)} ${value}`, describe(info, shown)).helpGroup(`${info.group}:`));
    for (const { name } of info.aliases) add(new Option(`--${foldName(name)} ${value}`).hideHelp());
  }
}

/** Hidden flags for official options that are handled by `takeOfficialOptions`. */
export function addOfficial(
  command: Command,
  official: readonly { name: string; placeholder: string }[],
): void {
  for (const { name, placeholder } of official) {
    const isSwitch = placeholder === 'bool';
    const option = new Option(`--${name} ${isSwitch ? '[bool]' : `<${placeholder}>`}`).hideHelp();
    if (isSwitch) switches.set(option, isBooleanWord);
    command.addOption(option);
  }
}

/**
 * Checks the flags of a command that are no options of the library.
 *
 * @throws {UserError} (exit code 2) naming the flag, its value and what is allowed
 */
export function readFlags<F extends Fields, K extends keyof F>(
  fields: F,
  given: Readonly<Record<string, unknown>>,
  defaults: Pick<Values<F>, K>,
): Partial<Values<F>> & Pick<Values<F>, K> {
  return { ...defaults, ...(readValues(fields, given, { kind: 'flag' }) as Partial<Values<F>>) };
}

/**
 * Rewrites flag spellings to those that `command` knows; everything unknown is left for commander to report.
 *
 * @throws {UserError} (exit code 2) where a flag lacks its value
 */
export function normaliseArgs(command: Command, args: readonly string[]): string[] {
  const byName = new Map(
    command.options.flatMap((o) => (o.long == null ? [] : [[o.long.slice(2), o] as const])),
  );
  const byShort = new Map(command.options.flatMap((o) => (o.short == null ? [] : [[o.short, o] as const])));
  // Where nothing else may follow a switch, a wrong word is its value, so that the message can say so.
  const hasArguments = command.registeredArguments.length > 0;
  const out: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === '--') return [...out, ...args.slice(i)];
    const short = byShort.get(arg);
    const match =
      short === undefined ? /^--([^=]+)(?:=(.*))?$/s.exec(arg) : [arg, short.long!.slice(2), undefined];
    if (match === null) {
      out.push(arg);
      continue;
    }
    const [, typed, inline] = match as [string, string, string | undefined];
    const name = foldName(typed);
    const option = byName.get(name);
    const next = args[i + 1];
    if (option === undefined) {
      const negated = name.startsWith('no-') ? byName.get(name.slice(3)) : undefined;
      const isNegation = negated !== undefined && switches.has(negated) && inline === undefined;
      out.push(isNegation ? `--${name.slice(3)}=false` : arg);
    } else if (inline !== undefined) {
      out.push(`--${name}=${inline}`);
    } else if (switches.has(option)) {
      const isValue =
        next !== undefined && (switches.get(option)!(next) || (!hasArguments && !next.startsWith('-')));
      if (isValue) i++;
      out.push(`--${name}=${isValue ? next : 'true'}`);
    } else if (option.required) {
      // A value may begin with a dash when it is a number (--x-start -16); joined, it is not taken for a flag.
      if (next === undefined || /^-(?!\.?\d)/.test(next))
        throw usageError('MISSING_VALUE', `--${name} needs a value: ${option.flags.replace(/^-\w, /, '')}`);
      i++;
      out.push(`--${name}=${next}`);
    } else out.push(`--${name}`);
  }
  return out;
}
