/**
 * Option fields ↔ command-line flags: adds the flags of a set of fields to a command, and rewrites the spellings
 * that people use (`--real_p`, `--xflip=1`, `--no-cache`, `--S_churn`) to the one that commander knows.
 */

import { type Command, Option } from 'commander';
import { type FieldInfo, fieldInfo } from '../config/fields.js';
import { type Fields, foldName, isBooleanWord, kebab } from '../config/read-values.js';

/** Marks the flags that take true/false, alone or with a value. */
const booleanFlags = new WeakSet<Option>();

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
  if (!isPlain || info.choices !== undefined) {
    const range = info.nullWord === undefined ? info.allowed : info.allowed.replace(/, or ".*"$/, '');
    if (info.kind !== 'choice' || (info.choices?.length ?? 0) > 3) details.push(range.replace(/^an? /, ''));
  }
  if (info.unit !== undefined && info.placeholder !== info.unit) details.push(info.unit);
  const isSaying = shownDefault !== undefined && shownDefault !== 'none' && shownDefault !== 'false';
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
    const option = new Option(`${short}--${kebab(key)} ${value}`, describe(info, shown)).helpGroup(
      `${info.group}:`,
    );
    if (info.kind === 'boolean') booleanFlags.add(option);
    command.addOption(option);
    for (const alias of info.aliases)
      command.addOption(new Option(`--${foldName(alias.name)} ${value}`).hideHelp());
  }
}

/** Hidden flags for official options that are handled by `takeOfficialOptions`. */
export function addOfficial(
  command: Command,
  official: readonly { name: string; placeholder: string }[],
): void {
  for (const { name, placeholder } of official) {
    const option = new Option(`--${name} [${placeholder}]`).hideHelp();
    booleanFlags.add(option);
    command.addOption(option);
  }
}

/** A flag of a command that is no field: true when given. Takes `=0`/`=1` as the others do. */
export function addSwitch(command: Command, flags: string, description: string): void {
  const option = new Option(`${flags} [bool]`, description);
  booleanFlags.add(option);
  command.addOption(option);
}

/** Whether a switch was given and not switched off. */
export const isOn = (value: unknown): boolean =>
  value === true || (typeof value === 'string' && ['1', 'true', 'yes', 'on'].includes(value.toLowerCase()));

/** Rewrites flag spellings to those that `command` knows; everything unknown is left for commander to report. */
export function normaliseArgs(command: Command, args: readonly string[]): string[] {
  const byName = new Map(
    command.options.flatMap((o) => (o.long == null ? [] : [[o.long.slice(2), o] as const])),
  );
  const byShort = new Map(command.options.flatMap((o) => (o.short == null ? [] : [[o.short, o] as const])));
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
    const negated = name.startsWith('no-') ? byName.get(name.slice(3)) : undefined;
    if (option === undefined) {
      const isNegation = negated !== undefined && booleanFlags.has(negated) && inline === undefined;
      out.push(isNegation ? `--${name.slice(3)}=false` : arg);
    } else if (inline !== undefined) {
      out.push(`--${name}=${inline}`);
    } else if (booleanFlags.has(option)) {
      const next = args[i + 1];
      const isValue = next !== undefined && (isBooleanWord(next) || next === 'auto' || /^\d/.test(next));
      if (isValue) i++;
      out.push(`--${name}=${isValue ? next : 'true'}`);
    } else {
      const next = args[i + 1];
      // Joined, so that a value may begin with a dash (--x-start -16).
      if (option.required && next !== undefined && !(next.startsWith('--') && next.length > 2)) {
        i++;
        out.push(`--${name}=${next}`);
      } else out.push(`--${name}`);
    }
  }
  return out;
}
