/**
 * Option fields: a zod schema together with what people need to know of it (description, unit, range, aliases).
 * One source: flags, help pages, config-file keys, validation and error messages are all generated from here.
 *
 * Values that come as text (flags, YAML strings) are read by kind before zod sees them, so the schemas
 * themselves stay strict: a library caller who passes `'64'` for a number is told so.
 */

import { z } from 'zod';

export type FieldKind =
  | 'int'
  | 'number'
  | 'boolean'
  | 'text'
  | 'path'
  | 'choice'
  | 'ints'
  | 'numbers'
  | 'size'
  | 'patches'
  | 'seeds';

/** Another name of an option. `scale` converts the unit: official `--duration` is in Mimg, ours in kimg (1000). */
export interface Alias {
  readonly name: string;
  readonly scale?: number;
  readonly unit?: string;
}

export interface FieldInfo {
  readonly description: string;
  readonly kind: FieldKind;
  /** What a value may be, as words: "an integer ≥ 1". */
  readonly allowed: string;
  /** Heading in the help page. */
  readonly group: string;
  readonly unit?: string;
  /** Stands for the value in the help page: `--batch <images>`. */
  readonly placeholder: string;
  readonly aliases: readonly Alias[];
  readonly choices?: readonly string[];
  /** What `null` means and how it is written on the command line ("none", "auto"). */
  readonly nullWord?: string;
  /** The flag may stand alone, without a value (for example `--resume`). */
  readonly bare?: string;
  /** Short flag, one letter. */
  readonly short?: string;
}

/** What a field's author writes; the rest of {@link FieldInfo} follows from the type. */
export interface FieldText {
  readonly group: string;
  readonly unit?: string;
  readonly placeholder?: string;
  readonly aliases?: readonly Alias[];
  readonly nullWord?: string;
  readonly bare?: string;
  readonly short?: string;
}

const registry = z.registry<FieldInfo>();

/** The description of a field made by this module. */
export function fieldInfo(schema: z.ZodType): FieldInfo {
  const info = registry.get(schema);
  if (info === undefined) throw new Error('internal: option schema without field information');
  return info;
}

function define<S extends z.ZodType>(
  schema: S,
  description: string,
  text: FieldText,
  rest: Pick<FieldInfo, 'kind' | 'allowed'> & { placeholder: string; choices?: readonly string[] },
): S {
  const allowed = text.nullWord === undefined ? rest.allowed : `${rest.allowed}, or "${text.nullWord}"`;
  registry.add(schema, {
    ...rest,
    ...text,
    placeholder: text.placeholder ?? rest.placeholder,
    aliases: text.aliases ?? [],
    description,
    allowed,
  });
  return schema;
}

export interface Range {
  readonly min?: number;
  readonly max?: number;
  /** Exclusive lower bound. */
  readonly above?: number;
  /** Exclusive upper bound. */
  readonly below?: number;
}

function rangeWords(noun: string, range: Range): string {
  const { min, max, above, below } = range;
  if (min !== undefined && max !== undefined) return `${noun} from ${min} to ${max}`;
  const parts: string[] = [];
  if (min !== undefined) parts.push(`≥ ${min}`);
  if (above !== undefined) parts.push(`> ${above}`);
  if (max !== undefined) parts.push(`≤ ${max}`);
  if (below !== undefined) parts.push(`< ${below}`);
  return parts.length === 0 ? noun : `${noun} ${parts.join(' and ')}`;
}

function limited(schema: z.ZodNumber, range: Range): z.ZodNumber {
  let result = schema;
  if (range.min !== undefined) result = result.min(range.min);
  if (range.max !== undefined) result = result.max(range.max);
  if (range.above !== undefined) result = result.gt(range.above);
  if (range.below !== undefined) result = result.lt(range.below);
  return result;
}

type Text = FieldText & Range;

const split = (text: Text): [Range, FieldText] => {
  const { min, max, above, below, ...rest } = text;
  const range: { -readonly [K in keyof Range]: Range[K] } = {};
  if (min !== undefined) range.min = min;
  if (max !== undefined) range.max = max;
  if (above !== undefined) range.above = above;
  if (below !== undefined) range.below = below;
  return [range, rest];
};

const intMeta = (range: Range, unit?: string) => ({
  kind: 'int' as const,
  allowed: rangeWords('an integer', range),
  placeholder: unit ?? 'n',
});
const numberMeta = (range: Range, unit?: string) => ({
  kind: 'number' as const,
  allowed: rangeWords('a number', range),
  placeholder: unit ?? 'x',
});

export function int(description: string, text: Text): z.ZodNumber {
  const [range, rest] = split(text);
  return define(limited(z.int(), range), description, rest, intMeta(range, text.unit));
}

export function intOrNull(
  description: string,
  text: Text & { nullWord: string },
): z.ZodNullable<z.ZodNumber> {
  const [range, rest] = split(text);
  return define(limited(z.int(), range).nullable(), description, rest, intMeta(range, text.unit));
}

export function number(description: string, text: Text): z.ZodNumber {
  const [range, rest] = split(text);
  return define(limited(z.number(), range), description, rest, numberMeta(range, text.unit));
}

/** A number, or one word with a meaning of its own, such as "dynamic". */
export function numberOrWord<const W extends string>(
  description: string,
  word: W,
  text: Text,
): z.ZodType<number | W> {
  const [range, rest] = split(text);
  const { kind, allowed, placeholder } = numberMeta(range, text.unit);
  return define(
    z.union([limited(z.number(), range), z.literal(word)]) as z.ZodType<number | W>,
    description,
    rest,
    { kind, allowed: `${allowed}, or "${word}"`, placeholder: `${placeholder}|${word}`, choices: [word] },
  );
}

export function numberOrNull(
  description: string,
  text: Text & { nullWord: string },
): z.ZodNullable<z.ZodNumber> {
  const [range, rest] = split(text);
  return define(limited(z.number(), range).nullable(), description, rest, numberMeta(range, text.unit));
}

export function boolean(description: string, text: FieldText): z.ZodBoolean {
  return define(z.boolean(), description, text, {
    kind: 'boolean',
    allowed: 'true or false',
    placeholder: 'bool',
  });
}

export function boolOrAuto(description: string, text: FieldText): z.ZodType<boolean | 'auto'> {
  return define(z.union([z.literal('auto'), z.boolean()]), description, text, {
    kind: 'boolean',
    allowed: 'true, false or auto',
    placeholder: 'bool|auto',
    choices: ['auto'],
  });
}

export function string(description: string, text: FieldText): z.ZodString {
  return define(z.string().min(1), description, text, { kind: 'text', allowed: 'text', placeholder: 'text' });
}

export function stringOrNull(
  description: string,
  text: FieldText & { nullWord: string },
): z.ZodNullable<z.ZodString> {
  return define(z.string().min(1).nullable(), description, text, {
    kind: 'text',
    allowed: 'text',
    placeholder: 'text',
  });
}

export function path(description: string, text: FieldText): z.ZodString {
  return define(z.string().min(1), description, text, {
    kind: 'path',
    allowed: 'a path',
    placeholder: 'path',
  });
}

export function pathOrNull(
  description: string,
  text: FieldText & { nullWord: string },
): z.ZodNullable<z.ZodString> {
  return define(z.string().min(1).nullable(), description, text, {
    kind: 'path',
    allowed: 'a path',
    placeholder: 'path',
  });
}

export function choice<const T extends readonly [string, ...string[]]>(
  description: string,
  choices: T,
  text: FieldText,
): z.ZodType<T[number]> {
  return define(z.enum(choices) as z.ZodType<T[number]>, description, text, {
    kind: 'choice',
    allowed: choices.length === 1 ? `only "${choices[0]}"` : `one of ${choices.join(', ')}`,
    placeholder: choices.length <= 3 ? choices.join('|') : 'name',
    choices,
  });
}

export function choiceOrNull<const T extends readonly [string, ...string[]]>(
  description: string,
  choices: T,
  text: FieldText & { nullWord: string },
): z.ZodType<T[number] | null> {
  return define(z.enum(choices).nullable() as unknown as z.ZodType<T[number] | null>, description, text, {
    kind: 'choice',
    allowed: `one of ${choices.join(', ')}`,
    placeholder: choices.length <= 3 ? choices.join('|') : 'name',
    choices,
  });
}

export function numberChoiceOrNull<const T extends readonly [number, ...number[]]>(
  description: string,
  choices: T,
  text: FieldText & { nullWord: string },
): z.ZodType<T[number] | null> {
  const schema = z
    .int()
    .refine((v) => choices.includes(v))
    .nullable() as unknown as z.ZodType<T[number] | null>;
  return define(schema, description, text, {
    kind: 'int',
    allowed: choices.join(' or '),
    placeholder: choices.join('|'),
  });
}

export function ints(description: string, text: Text & { minLength?: number }): z.ZodArray<z.ZodNumber> {
  const { minLength = 1, ...others } = text;
  const [range, rest] = split(others);
  return define(z.array(limited(z.int(), range)).min(minLength), description, rest, {
    kind: 'ints',
    allowed: `a list of ${rangeWords('integers', range)}, such as 1,2,2 or 1-4${minLength === 0 ? ', or none' : ''}`,
    placeholder: 'list',
  });
}

export function intsOrNull(
  description: string,
  text: Text & { nullWord: string },
): z.ZodNullable<z.ZodArray<z.ZodNumber>> {
  const [range, rest] = split(text);
  return define(z.array(limited(z.int(), range)).min(1).nullable(), description, rest, {
    kind: 'ints',
    allowed: `a list of ${rangeWords('integers', range)}, such as 16,32,64`,
    placeholder: 'list',
  });
}

export function numberPair(description: string, text: Text): z.ZodTuple<[z.ZodNumber, z.ZodNumber], null> {
  const [range, rest] = split(text);
  const one = limited(z.number(), range);
  return define(z.tuple([one, one]), description, rest, {
    kind: 'numbers',
    allowed: `two ${rangeWords('numbers', range)}, such as 0.9,0.999`,
    placeholder: 'a,b',
  });
}

export function numberPairOrNull(
  description: string,
  text: Text & { nullWord: string; example: string },
): z.ZodType<[number, number] | null> {
  const { example, ...others } = text;
  const [range, rest] = split(others);
  const one = limited(z.number(), range);
  const schema = z.tuple([one, one]).nullable() as unknown as z.ZodType<[number, number] | null>;
  return define(schema, description, rest, {
    kind: 'numbers',
    allowed: `two ${rangeWords('numbers', range)}, such as ${example}`,
    placeholder: 'a,b',
  });
}

export interface SizePx {
  readonly width: number;
  readonly height: number;
}

/** One side, or width × height. */
export function sizeOrNull(
  description: string,
  text: Text & { nullWord: string },
): z.ZodType<number | SizePx | null> {
  const [range, rest] = split(text);
  const side = limited(z.int(), range);
  return define(
    z.union([side, z.strictObject({ width: side, height: side })]).nullable(),
    description,
    rest,
    {
      kind: 'size',
      allowed: `${rangeWords('an integer', range)}, or two such as 96x64`,
      placeholder: 'px|WxH',
    },
  );
}

export function seeds(description: string, text: FieldText): z.ZodArray<z.ZodNumber> {
  return define(z.array(z.int().min(0)).min(1), description, text, {
    kind: 'seeds',
    allowed: 'integers ≥ 0 and ranges, such as 0-63,70',
    placeholder: 'list',
  });
}

/** A patch side with the share of the rounds that use it; null where it is not given. */
export interface PatchSide {
  readonly sidePx: number;
  readonly probability: number | null;
}

/** `8,16,32`, or with probabilities `8:0.2,16:0.3,32:0.5`. */
export function patchesOrNull(
  description: string,
  text: FieldText & { nullWord: string },
): z.ZodNullable<z.ZodArray<z.ZodType<PatchSide>>> {
  const side: z.ZodType<PatchSide> = z.strictObject({
    sidePx: z.int().min(2).max(4096),
    probability: z.number().min(0).max(1).nullable(),
  });
  return define(z.array(side).min(1).nullable(), description, text, {
    kind: 'patches',
    allowed: 'sides from 2 to 4096, such as 16,32,64, or with probabilities 16:0.2,32:0.3,64:0.5',
    placeholder: 'side[:p],…',
  });
}
