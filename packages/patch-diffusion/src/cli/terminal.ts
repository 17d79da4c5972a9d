/** Where text goes and how it looks: colour only on a terminal, and never with NO_COLOR. */

import type { WriteStream } from 'node:tty';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

const CODES: Record<Style, number> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

export function useColour(stream: WriteStream): boolean {
  if (process.env.NO_COLOR !== undefined && process.env.NO_COLOR !== '') return false;
  if (process.env.FORCE_COLOR !== undefined && process.env.FORCE_COLOR !== '0') return true;
  return stream.isTTY === true && process.env.TERM !== 'dumb';
}

/** Text in a colour, where the stream has colours. */
export function paint(stream: WriteStream, style: Style, text: string): string {
  return useColour(stream) ? `\u001b[${CODES[style]}m${text}\u001b[0m` : text;
}

/** Whether `--verbose` was given; main says so once. */
export const verbosity = { isVerbose: false };

/** Results: what a script might read. */
export function print(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Progress, notes and errors. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
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

/** 1234567 → "1,234,567" */
export const formatCount = (n: number): string => n.toLocaleString('en-US');

/** Rows of label and value, aligned. */
export function table(rows: readonly (readonly [string, string])[], indent = ''): string {
  const width = Math.max(0, ...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${indent}${label.padEnd(width)}  ${value}`).join('\n');
}
