/**
 * Where text goes and how it looks: colour only on a terminal, and never with NO_COLOR. Everything that this program
 * prints passes through here, where control characters in names, metadata and messages are made harmless.
 */

import type { WriteStream } from 'node:tty';
import { oneLine, printable } from '../common/printable.js';

const REDRAW_MS = 100;
/** To the first column, and erase the line. */
const CLEAR_LINE = '\r\u001b[2K';

type Colour = 'red' | 'yellow';

const CODES: Record<Colour, number> = { red: 31, yellow: 33 };

function hasColours(stream: WriteStream): boolean {
  if (process.env.NO_COLOR) return false;
  if (process.env.FORCE_COLOR !== undefined) return process.env.FORCE_COLOR !== '0';
  return stream.isTTY === true && process.env.TERM !== 'dumb';
}

/** Text of ours in a colour, where standard error has colours. */
function paint(colour: Colour, text: string): string {
  return hasColours(process.stderr) ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text;
}

/** Whether `--verbose` was given; main says so once. */
export const verbosity = { isVerbose: false };

/** Results: what a script might read. */
export function print(text = ''): void {
  process.stdout.write(`${printable(text)}\n`);
}

let writeNote: ((text: string) => void) | null = null;

/** Sends notes and warnings elsewhere than to standard error; null: back. Errors stay. */
export function redirectNotes(write: ((text: string) => void) | null): void {
  writeNote = write;
}

/** Progress and notes. */
export function note(text: string): void {
  const line = `${printable(text)}\n`;
  if (writeNote) writeNote(line);
  else process.stderr.write(line);
}

/** Something a person should know. */
export function warn(message: string): void {
  note(paint('yellow', `warning: ${printable(oneLine(message))}`));
}

/** Why a command fails. */
export function complain(message: string): void {
  process.stderr.write(`${paint('red', 'error:')} ${printable(message)}\n`);
}

/** One line at the bottom of a terminal; text above it scrolls on. */
export class LiveLine {
  readonly #stream = process.stderr;
  #text = '';
  #drawnAt = 0;

  /** Is there a terminal to draw on? */
  get #isLive(): boolean {
    return this.#stream.isTTY === true && process.env.TERM !== 'dumb';
  }

  /** Characters that fit. A terminal without a size says 0. */
  get columns(): number {
    return (this.#stream.columns || 80) - 1;
  }

  set(text: string, force = false): void {
    if (!this.#isLive) return;
    const now = Date.now();
    this.#text = text;
    if (!force && now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#stream.write(`${CLEAR_LINE}${printable(oneLine(text)).slice(0, this.columns)}`);
  }

  /** Writes a lasting line above. */
  note(text: string): void {
    this.#above(() => note(text));
  }

  /** The same for a warning. */
  warn(message: string): void {
    this.#above(() => warn(message));
  }

  #above(write: () => void): void {
    if (this.#isLive) this.#stream.write(CLEAR_LINE);
    write();
    if (this.#text !== '') this.set(this.#text, true);
  }

  /** Removes the line. */
  clear(): void {
    if (this.#isLive && this.#text !== '') this.#stream.write(CLEAR_LINE);
    this.#text = '';
  }
}

/** Does work that shows its progress on a line, and removes the line when the work has ended. */
export async function withLine<T>(work: (line: LiveLine) => Promise<T>): Promise<T> {
  const line = new LiveLine();
  try {
    return await work(line);
  } finally {
    line.clear();
  }
}

/** 12s · 3m 05s · 2h 03m 04s · 1d 02h 03m */
export function formatSec(sec: number): string {
  if (!Number.isFinite(sec)) return '–';
  const s = Math.round(sec);
  const two = (n: number): string => String(n).padStart(2, '0');
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86_400)];
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${m}m ${two(s % 60)}s`;
  if (s < 86_400) return `${h}h ${two(m % 60)}m ${two(s % 60)}s`;
  return `${d}d ${two(h % 24)}h ${two(m % 60)}m`;
}

/** 1536 → "1.5 KiB" */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** "fetching 12 MiB of 250 MiB" */
export function fetchLine(doneBytes: number, totalBytes: number | null): string {
  return `fetching ${formatBytes(doneBytes)}${totalBytes === null ? '' : ` of ${formatBytes(totalBytes)}`}`;
}

let counts: Intl.NumberFormat | null = null;

/** 1234567 → "1,234,567" */
export function formatCount(n: number): string {
  counts ??= new Intl.NumberFormat('en-US');
  return counts.format(n);
}

/** Rows of label and value, aligned. */
export function table(rows: readonly (readonly [string, string])[], indent = ''): string {
  const width = Math.max(0, ...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${indent}${label.padEnd(width)}  ${oneLine(value)}`).join('\n');
}
