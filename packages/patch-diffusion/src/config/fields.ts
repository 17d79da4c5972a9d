/**
 * Option fields: the schema of an option's value, and what people need to know of it (description, unit, range,
 * default, other names). Flags, help pages, config-file keys, checks and error messages all come from here.
 *
 * Values that come as text (flags, YAML strings) are converted by kind before the schema sees them, so the schemas
 * themselves stay strict: a library caller who passes `'64'` for a number gets an error.
 */

import { z } from 'zod';
import type { Extent } from '../patches/extent.js';

type FieldKind =
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
  | 'seeds'
  | 'list'
  | 'class';

/** Another name of an option. `scale` converts the unit: official `--duration` is in Mimg, ours in kimg (1000). */
export interface Alias {
  readonly name: string;
  readonly scale?: number;
  readonly unit?: string;
}

/** What the author of a field may add to its description. */
interface FieldText<T> {
  /** Where there is none, the option must be given; an option with a `nullWord` is null by default. */
  readonly default?: T;
  /** The option may be null ("not set"), written as this word on the command line. */
  readonly nullWord?: string;
  readonly unit?: string;
  /** Stands for the value in the help page: `--batch <images>`. */
  readonly placeholder?: string;
  readonly aliases?: readonly Alias[];
  /** Value of the flag when it stands alone (for example `--resume`). */
  readonly bare?: string;
  /** Short flag, one letter. */
  readonly short?: string;
}

/** What follows from the type of a field. */
interface Shape<T> {
  readonly schema: z.ZodType<T>;
  readonly kind: FieldKind;
  /** What a value may be, as words: "an integer ≥ 1". */
  readonly allowed: string;
  readonly placeholder: string;
  readonly choices?: readonly (string | number)[];
}

export interface Field<T = unknown> extends FieldText<T>, Shape<T> {
  readonly description: string;
  /** Heading in the help page. */
  readonly heading: string;
  readonly placeholder: string;
  readonly aliases: readonly Alias[];
}

export type Fields = Readonly<Record<string, Field>>;

/** The values of a set of fields. */
export type Values<F extends Fields> = {
  -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

/** Makes fields of one type; with a `nullWord`, the value may be null as well. */
interface Maker<T, Extra = unknown> {
  (description: string, text: FieldText<T | null> & Extra & { nullWord: string }): Field<T | null>;
  (description: string, text?: FieldText<T> & Extra): Field<T>;
}

function maker<T, Extra = unknown>(shapeOf: (text: FieldText<T> & Extra) => Shape<T>): Maker<T, Extra> {
  const make = (description: string, text = {} as FieldText<T> & Extra): Field<T | null> => {
    const shape = shapeOf(text);
    const field = { heading: 'Options', aliases: [], ...shape, ...text, description };
    if (text.nullWord === undefined) return field;
    const allowed = `${shape.allowed}, or "${text.nullWord}"`;
    return { default: null, ...field, schema: shape.schema.nullable(), allowed };
  };
  return make as Maker<T, Extra>;
}

/** Fields under one heading of the help page. */
export function under<F extends Fields>(heading: string, fields: F): F {
  const entries = Object.entries(fields).map(([key, field]) => [key, { ...field, heading }]);
  return Object.fromEntries(entries) as F;
}

/** Bounds of numbers, and of every number in a list. */
interface Range {
  readonly min?: number;
  readonly max?: number;
  /** Exclusive lower bound. */
  readonly above?: number;
  /** Exclusive upper bound. */
  readonly below?: number;
}

function rangeWords(noun: string, { min, max, above, below }: Range): string {
  if (min !== undefined && max !== undefined) return `${noun} from ${min} to ${max}`;
  const bounds = [
    ['≥', min],
    ['>', above],
    ['≤', max],
    ['<', below],
  ] as const;
  const parts = bounds.flatMap(([sign, bound]) => (bound === undefined ? [] : [`${sign} ${bound}`]));
  return [noun, parts.join(' and ')].join(' ').trim();
}

function limited(
  schema: z.ZodNumber,
  { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity }: Range,
) {
  const isIn = (value: number) => value >= min && value <= max && value > above && value < below;
  return schema.refine(isIn);
}

export const int = maker<number, Range>((text) => ({
  kind: 'int',
  schema: limited(z.int(), text),
  allowed: rangeWords('an integer', text),
  placeholder: text.unit ?? 'n',
}));

export const number = maker<number, Range>((text) => ({
  kind: 'number',
  schema: limited(z.number(), text),
  allowed: rangeWords('a number', text),
  placeholder: text.unit ?? 'x',
}));

/** A number, or one word with a meaning of its own, such as "dynamic". */
export function numberOrWord<const W extends string>(
  description: string,
  word: W,
  options: FieldText<number | W> & Range,
): Field<number | W> {
  const make = maker<number | W, Range>((text) => ({
    kind: 'number',
    schema: z.union([limited(z.number(), text), z.literal(word)]),
    allowed: `${rangeWords('a number', text)}, or "${word}"`,
    placeholder: `x|${word}`,
    choices: [word],
  }));
  return make(description, options);
}

export const boolean = maker<boolean>(() => ({
  kind: 'boolean',
  schema: z.boolean(),
  allowed: 'true or false',
  placeholder: 'bool',
}));

export const booleanOrAuto = maker<boolean | 'auto'>(() => ({
  kind: 'boolean',
  schema: z.union([z.literal('auto'), z.boolean()]),
  allowed: 'true, false or auto',
  placeholder: 'bool|auto',
  choices: ['auto'],
}));

export const string = maker<string>(() => ({
  kind: 'text',
  schema: z.string().min(1),
  allowed: 'text',
  placeholder: 'text',
}));

export const path = maker<string>(() => ({
  kind: 'path',
  schema: z.string().min(1),
  allowed: 'a path',
  placeholder: 'path',
}));

/** One of several words or numbers. */
export function choice<const T extends readonly (string | number)[]>(
  description: string,
  choices: T,
  text: FieldText<T[number] | null> & { nullWord: string },
): Field<T[number] | null>;
export function choice<const T extends readonly (string | number)[]>(
  description: string,
  choices: T,
  text?: FieldText<T[number]>,
): Field<T[number]>;
export function choice(
  description: string,
  choices: readonly (string | number)[],
  options: FieldText<string | number> = {},
): Field<string | number> {
  const make = maker<string | number>(() => ({
    kind: 'choice',
    schema: z.literal([...choices]),
    allowed: `one of ${choices.join(', ')}`,
    placeholder: choices.length <= 3 ? choices.join('|') : 'name',
    choices,
  }));
  return make(description, options);
}

export const ints = maker<number[], Range & { minLength?: number }>((text) => {
  const { minLength = 1 } = text;
  return {
    kind: 'ints',
    schema: z.array(limited(z.int(), text)).min(minLength),
    allowed: `a list of ${rangeWords('integers', text)}, such as 1,2,2 or 1-4${minLength === 0 ? ', or none' : ''}`,
    placeholder: 'list',
  };
});

export const numberPair = maker<[number, number], Range & { example: string }>((text) => ({
  kind: 'numbers',
  schema: z.tuple([limited(z.number(), text), limited(z.number(), text)]),
  allowed: `two ${rangeWords('numbers', text)}, such as ${text.example}`,
  placeholder: 'a,b',
}));

export const numbers = maker<number[], { example: string }>(({ example }) => ({
  kind: 'numbers',
  schema: z.array(z.number()).min(1),
  allowed: `numbers, such as ${example}`,
  placeholder: 'a,b,…',
}));

/** Several paths, separated by commas. */
export const list = maker<string[]>(() => ({
  kind: 'list',
  schema: z.array(z.string().min(1)),
  allowed: 'paths',
  placeholder: 'paths',
}));

/** Some of several words, separated by commas. */
export function choices<const T extends string>(
  description: string,
  all: readonly T[],
  text: FieldText<T[] | null> & { nullWord: string },
): Field<T[] | null> {
  const make = maker<T[]>(() => ({
    kind: 'list',
    schema: z.array(z.literal([...all])).min(1) as unknown as z.ZodType<T[]>,
    allowed: `some of ${all.join(', ')}`,
    placeholder: 'list',
    choices: all,
  }));
  return make(description, text);
}

/** A class by its number or its name. */
export const classOf = maker<number | string>(() => ({
  kind: 'class',
  schema: z.union([z.int().min(0), z.string().min(1)]),
  allowed: 'a class number or name',
  placeholder: 'number|name',
}));

/** One side, or width × height. */
export const size = maker<number | Extent, Range>((text) => {
  const side = limited(z.int(), text);
  return {
    kind: 'size',
    schema: z.union([side, z.strictObject({ width: side, height: side })]),
    allowed: `${rangeWords('an integer', text)}, or two such as 96x64`,
    placeholder: 'px|WxH',
  };
});

/** Width and height of a size option. */
export function toExtent(size: number | Extent): Extent {
  return typeof size === 'number' ? { width: size, height: size } : size;
}

export const seeds = maker<number[]>(() => ({
  kind: 'seeds',
  schema: z.array(z.int().min(0)).min(1),
  allowed: 'integers ≥ 0 and ranges, such as 0-63,70',
  placeholder: 'list',
}));

/** A patch side with the share of the rounds that use it; null where it is not given. */
export interface PatchSide {
  readonly sidePx: number;
  readonly probability: number | null;
}

/** `8,16,32`, or with probabilities `8:0.2,16:0.3,32:0.5`. */
export const patches = maker<PatchSide[]>(() => {
  const sidePx = z.int().min(2).max(4096);
  const probability = z.number().min(0).max(1).nullable();
  return {
    kind: 'patches',
    schema: z.array(z.strictObject({ sidePx, probability })).min(1),
    allowed: 'sides from 2 to 4096, such as 16,32,64, or with probabilities 16:0.2,32:0.3,64:0.5',
    placeholder: 'side[:p],…',
  };
});

/** Relative lengths of averages that can be made; no power function is wider than 0.288. */
export const EMA_LENGTHS = { min: 0.005, max: 0.28 } as const;

/** Relative length of an average that is made after training. */
export const emaLength = (description: string) =>
  number(description, { ...EMA_LENGTHS, placeholder: 'length', nullWord: 'none' });

/** The device that computes; the same for every command. */
export const device = () =>
  string('auto, cpu, cuda, cuda:1 or mps', { placeholder: 'name', default: 'auto' });

/** CPU threads that libtorch may use; the same for every command. */
export const threads = () => int('CPU threads', { min: 1, max: 4096, nullWord: 'auto' });
