/**
 * Curves from `stats.jsonl`, thinned without reading all of it: of a long file (100,000 lines are 150 MB), lines at
 * evenly spaced places are read. A part of the run is found by bisection, since lines are in order, so zooming in shows
 * every line in the end. Time and memory depend on the number of lines asked for, not on the length of the file.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { nimgInName } from '../run/file-names.js';
import type { Series, XAxis } from './api.js';

/** A part of a run. */
export interface Range {
  readonly x: XAxis;
  readonly from: number;
  readonly to: number;
}

/** Up to here a file, or the asked part of it, is read whole. */
const WHOLE_BYTES = 2 ** 21;
/** A line is about 1.5 kB. */
const BLOCK_BYTES = 4096;
/** What is longer is no line of ours. */
const MAX_LINE_BYTES = 2 ** 18;
/** Reads at the same time. */
const CONCURRENCY = 64;

/** Where the values along an axis stand in a line. */
const X_KEYS: Readonly<Record<XAxis, string>> = {
  kimg: 'Progress/kimg',
  step: 'Progress/step',
  time: 'Timing/total_sec',
  clock: 'timestamp',
};

type Values = ReadonlyMap<string, number | null>;

interface Line {
  /** Place of its first byte. */
  readonly start: number;
  /** Place behind its end. */
  readonly end: number;
  /** Null: damaged. */
  readonly values: Values | null;
}

/**
 * Reads at most about `maxLines` lines of a run's statistics.
 * @param range only lines in it, and one beyond each end, so that curves leave the chart at its edge
 */
export async function readSeries(runDir: string, maxLines: number, range?: Range): Promise<Series> {
  const handle = await open(join(runDir, 'stats.jsonl')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null; // nothing reported yet
    throw error;
  });
  if (handle === null) return { columns: {}, thinned: false, damaged: 0 };
  try {
    const { size } = await handle.stat();
    const [from, to] = range ? await placesOf(handle, size, range) : [0, size];
    if (to - from <= WHOLE_BYTES) return toSeries(await readWhole(handle, from, to), maxLines);
    const lines = await readSpaced(handle, from, to, maxLines);
    return { ...toSeries(lines, maxLines), thinned: true };
  } finally {
    await handle.close();
  }
}

/** The last value of each key in the last lines: some things are not reported at every tick. */
export async function lastValues(runDir: string): Promise<Values> {
  const last = new Map<string, number | null>();
  const handle = await open(join(runDir, 'stats.jsonl')).catch(() => null);
  if (handle === null) return last;
  try {
    const { size } = await handle.stat();
    const lines = await readWhole(handle, Math.max(0, size - 8 * BLOCK_BYTES), size);
    for (const { values } of lines) for (const [key, value] of values ?? []) last.set(key, value);
    return last;
  } finally {
    await handle.close();
  }
}

/** Held-out losses of the ticks at which snapshots were written, by images. */
export async function heldOutLosses(
  runDir: string,
  snapshots: readonly string[],
): Promise<ReadonlyMap<number, number>> {
  const losses = new Map<number, number>();
  for (const nimg of snapshots.map(nimgInName)) {
    const near = { x: 'kimg', from: (nimg - 0.5) / 1000, to: (nimg + 0.5) / 1000 } as const;
    const { columns } = await readSeries(runDir, 50, near);
    for (const [i, kimg] of (columns['Progress/kimg'] ?? []).entries()) {
      const loss = columns['Loss/held_out']?.[i];
      if (Math.round((kimg ?? -1) * 1000) === nimg && typeof loss === 'number') losses.set(nimg, loss);
    }
  }
  return losses;
}

async function readBytes(handle: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(to - from);
  const { bytesRead } = await handle.read(buffer, 0, to - from, from);
  return buffer.subarray(0, bytesRead);
}

/** The whole lines that begin in a part of the file. */
async function readWhole(handle: FileHandle, from: number, to: number): Promise<Line[]> {
  const bytes = await readBytes(handle, from, to);
  const lines: Line[] = [];
  let start = from === 0 ? 0 : bytes.indexOf(10) + 1;
  if (from > 0 && start === 0) return lines;
  for (let end = bytes.indexOf(10, start); end >= 0; end = bytes.indexOf(10, start)) {
    lines.push(parse(bytes.toString('utf8', start, end), from + start, from + end + 1));
    start = end + 1;
  }
  return lines;
}

/** Lines at evenly spaced places, and the last one. */
async function readSpaced(handle: FileHandle, from: number, to: number, count: number): Promise<Line[]> {
  const places = Array.from({ length: count }, (_, i) => from + Math.floor(((to - from) * i) / count));
  const lines: Line[] = [];
  for (let i = 0; i < count; i += CONCURRENCY) {
    const some = await Promise.all(places.slice(i, i + CONCURRENCY).map((place) => lineAt(handle, place)));
    for (const line of some) {
      if (line !== null && line.start < to && line.start > (lines.at(-1)?.start ?? -1)) lines.push(line);
    }
  }
  const tail = await readWhole(handle, Math.max(from, to - 4 * BLOCK_BYTES), to);
  const last = tail.findLast(({ values }) => values !== null);
  if (last && last.start > (lines.at(-1)?.start ?? -1)) lines.push(last);
  return lines;
}

/** The first whole line that begins at a place or after it; null where there is none. */
async function lineAt(handle: FileHandle, place: number): Promise<Line | null> {
  // A line begins behind a line break, which may be the byte before the place.
  const from = Math.max(0, place - 1);
  for (let length = BLOCK_BYTES; length <= MAX_LINE_BYTES; length *= 4) {
    const bytes = await readBytes(handle, from, from + length);
    const start = place === 0 ? 0 : bytes.indexOf(10) + 1;
    const end = start === 0 && place > 0 ? -1 : bytes.indexOf(10, start);
    if (end >= 0) return parse(bytes.toString('utf8', start, end), from + start, from + end + 1);
    if (bytes.length < length) return null;
  }
  return null;
}

/** Places in the file around the lines of a range. */
async function placesOf(handle: FileHandle, size: number, { x, from, to }: Range): Promise<[number, number]> {
  const key = X_KEYS[x];
  /** The place from which on all lines are beyond a value. */
  const bisect = async (isBeyond: (value: number) => boolean): Promise<number> => {
    let [low, high] = [0, size];
    while (high - low > BLOCK_BYTES) {
      const middle = Math.floor((low + high) / 2);
      const value = await valueFrom(handle, middle, high, key);
      if (value === null || isBeyond(value)) high = middle;
      else low = middle;
    }
    return low;
  };
  const [first, last] = await Promise.all([bisect((v) => v >= from), bisect((v) => v > to)]);
  return [Math.max(0, first - BLOCK_BYTES), Math.min(size, last + 3 * BLOCK_BYTES)];
}

/** The value of the first line at or after a place that has one; null where there is none before `end`. */
async function valueFrom(
  handle: FileHandle,
  place: number,
  end: number,
  key: string,
): Promise<number | null> {
  for (let at = place; at < end; ) {
    const line = await lineAt(handle, at);
    if (line === null || line.start >= end) return null;
    const value = line.values?.get(key);
    if (typeof value === 'number') return value;
    at = line.end;
  }
  return null;
}

function parse(text: string, start: number, end: number): Line {
  try {
    const json: unknown = JSON.parse(text);
    if (typeof json !== 'object' || json === null || Array.isArray(json)) return { start, end, values: null };
    const values = new Map<string, number | null>();
    for (const [key, value] of Object.entries(json)) {
      const mean: unknown = typeof value === 'object' ? (value as { mean?: unknown } | null)?.mean : value;
      values.set(key, typeof mean === 'number' ? mean : null);
    }
    return { start, end, values };
  } catch {
    return { start, end, values: null };
  }
}

/** Lines as columns, evenly thinned where there are too many. */
function toSeries(lines: readonly Line[], maxLines: number): Series {
  const good = lines.flatMap(({ values }) => (values === null ? [] : [values]));
  const damaged = lines.length - good.length;
  const thinned = good.length > maxLines;
  const chosen = thinned
    ? Array.from({ length: maxLines }, (_, i) => good[Math.round((i * (good.length - 1)) / (maxLines - 1))])
    : good;
  const keys = new Set(chosen.flatMap((values) => [...values.keys()]));
  const columns = Object.fromEntries(
    [...keys].map((key) => [key, chosen.map((values) => values.get(key) ?? null)]),
  );
  return { columns, thinned, damaged };
}
