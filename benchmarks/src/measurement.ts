/** What every measurement gives, and the file that it is kept in. */
import { readFile } from 'node:fs/promises';
import type { Machine } from './machine.js';

/** One measured quantity, with all its repeats: their spread is the noise. */
export interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  readonly values: readonly number[];
}

/** What a subcommand returns. */
export interface Measurement {
  /** What `--against` compares. */
  readonly figures: readonly Figure[];
  /** For people: Markdown. */
  readonly markdown: string;
  /** More for the JSON file, by key. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** A JSON file of `--json`; the details are further keys. */
export interface RecordedMeasurement {
  readonly command: string;
  /** The command line behind the subcommand, without `--json` and `--against`. */
  readonly arguments: readonly string[];
  readonly machine: Machine;
  readonly figures: readonly Figure[];
}

/** @throws Error naming the file, when it cannot be read or is not one of `--json` */
export async function readMeasurement(file: string): Promise<RecordedMeasurement> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new Error(`--against ${file}: ${(error as Error).message}`);
  }
  if (!isMeasurement(value))
    throw new Error(`--against ${file}: this is not a file that \`npm run bench -- … --json FILE\` wrote`);
  return value;
}

function isMeasurement(value: unknown): value is RecordedMeasurement {
  if (typeof value !== 'object' || value === null) return false;
  const { command, arguments: args, machine, figures } = value as Partial<Record<string, unknown>>;
  const isList = (list: unknown, isItem: (item: unknown) => boolean): boolean =>
    Array.isArray(list) && list.every(isItem);
  return (
    typeof command === 'string' &&
    isList(args, (text) => typeof text === 'string') &&
    typeof machine === 'object' &&
    machine !== null &&
    isList(figures, isFigure)
  );
}

function isFigure(value: unknown): value is Figure {
  if (typeof value !== 'object' || value === null) return false;
  const { name, unit, better, values } = value as Partial<Figure>;
  return (
    typeof name === 'string' &&
    typeof unit === 'string' &&
    (better === 'higher' || better === 'lower') &&
    Array.isArray(values) &&
    values.length > 0 &&
    values.every((number) => typeof number === 'number' && Number.isFinite(number))
  );
}
