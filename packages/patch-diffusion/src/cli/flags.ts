/**
 * Option fields ↔ command-line flags: adds the flags of a set of fields to a command, and rewrites the spellings
 * that people use (`--real_p`, `--xflip=1`, `--no-cache`, `--S_churn`) to the one that commander knows.
 */

import { type Command, Option } from 'commander';
import { usageError } from '../common/errors.js';
import type { Field, Fields, Values } from '../config/fields.js';
import { foldName, kebab, readValues, toBoolean, withDefaults } from '../config/read-values.js';

/** Flags that may stand alone, with the words that they take as a value. */
const switches = new WeakMap<Option, (word: string) => boolean>();

/** A default as the help page shows it. */
function showDefault(value: unknown, { kind, nullWord }: Field): string | undefined {
  if (value === null) return nullWord;
  if (!Array.isArray(value)) return value === undefined ? undefined : String(value);
  if (kind === 'seeds' && value.length > 4) return `${value[0]}-${value.at(-1)}`;
  return value.join(',') || 'none';
}

/** The description of a field with its range, unit, default and aliases. */
function describe(field: Field, shownDefault: string | undefined): string {
  const { kind, nullWord, unit, choices = [], aliases } = field;
  const isDefaultShown = shownDefault !== undefined && shownDefault !== 'none' && shownDefault !== 'false';
  // Words and short lists of choices are in the placeholder.
  const needsRange = kind === 'choice' ? choices.length > 3 : choices.length > 0 || !isText(field);
  // The word for "not set" is shown once, here or as the default.
  const isNullShown = isDefaultShown && shownDefault === nullWord;
  const allowed = isNullShown ? field.allowed.replace(/, or ".*"$/, '') : field.allowed;
  const names = aliases.map((a) => `--${a.name}${a.unit === undefined ? '' : ` <${a.unit}>`}`);
  const details = [
    needsRange && allowed.replace(/^an? /, ''),
    field.placeholder !== unit && unit,
    isDefaultShown && `default: ${shownDefault}`,
    names.length > 0 && `also ${names.join(', ')}`,
  ].filter(Boolean);
  return details.length === 0 ? field.description : `${field.description} (${details.join('; ')})`;
}

const isText = ({ kind }: Field): boolean => kind === 'path' || kind === 'text' || kind === 'boolean';

/**
 * Adds a flag for each field, under its heading, and hidden ones for the aliases.
 * @param defaults those that the help page shows in place of the fields' own
 */
export function addFields(
  command: Command,
  fields: Fields,
  defaults: Readonly<Record<string, unknown>> = {},
): void {
  for (const [key, field] of Object.entries(fields)) {
    const isSwitch = field.kind === 'boolean';
    const value = isSwitch || field.bare !== undefined ? `[${field.placeholder}]` : `<${field.placeholder}>`;
    const short = field.short === undefined ? '' : `-${field.short}, `;
    const add = (option: Option): void => {
      const takes = (word: string) => toBoolean(word) !== undefined || field.choices?.includes(word) === true;
      if (isSwitch) switches.set(option, takes);
      command.addOption(option);
    };
    const shown = showDefault(key in defaults ? defaults[key] : field.default, field);
    add(
      new Option(`${short}--${kebab(key)} ${value}`, describe(field, shown)).helpGroup(`${field.heading}:`),
    );
    for (const { name } of field.aliases) add(new Option(`--${foldName(name)} ${value}`).hideHelp());
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
    if (isSwitch) switches.set(option, (word) => toBoolean(word) !== undefined);
    command.addOption(option);
  }
}

/**
 * Checks the flags of a command that are no options of the library.
 *
 * @throws {UserError} (exit code 2) naming the flag, its value and what is allowed
 */
export function readFlags<F extends Fields>(fields: F, given: Readonly<Record<string, unknown>>): Values<F> {
  return withDefaults(fields, readValues(fields, given, 'flag'));
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
    const arg = args[i];
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
