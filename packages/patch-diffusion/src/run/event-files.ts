/** The TensorBoard event files of a run folder: one for each time that the run was started or resumed. */

import { copyFile, readdir, readFile, truncate } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { EventSchema } from '../formats/tensorboard/event_pb.js';
import { decodeRecords } from '../formats/tensorboard/records.js';

/** TensorBoard reads a folder's files in the order of their names, which begin with the time in seconds. */
const NAME = /^events\.out\.tfevents\.(\d{10,})\./;

/** Paths of a run's event files, oldest first. */
export async function listEventFiles(runDir: string): Promise<string[]> {
  const names = await readdir(runDir).catch((): string[] => []);
  return names
    .filter((name) => NAME.test(name))
    .sort()
    .map((name) => join(runDir, name));
}

/** The path of a new event file, which comes after those that are there even where the clock was set back. */
export async function newEventFile(runDir: string): Promise<string> {
  const last = (await listEventFiles(runDir)).at(-1);
  const lastSec = last === undefined ? 0 : Number(NAME.exec(last.slice(runDir.length + 1))?.[1]);
  const sec = Math.max(Math.floor(Date.now() / 1000), lastSec + 1);
  const host = hostname().replace(/[^\w-]+/g, '_');
  return join(runDir, `events.out.tfevents.${sec}.${host}.${process.pid}.0`);
}

/** Event files that reach beyond an update, and the bytes of each up to it. */
export async function eventsBeyond(
  runDir: string,
  step: number,
): Promise<{ readonly file: string; readonly keptBytes: number }[]> {
  const files = await listEventFiles(runDir);
  const ends = await Promise.all(files.map(async (file) => firstBeyond(await readFile(file), step)));
  return files.flatMap((file, i) => (ends[i] === null ? [] : [{ file, keptBytes: ends[i] }]));
}

/** Where the first event after `step` begins, or null without one. Events are in the order of their steps. */
function firstBeyond(file: Buffer, step: number): number | null {
  let end = 0;
  for (const record of decodeRecords(file)) {
    if (fromBinary(EventSchema, record.contents).step > BigInt(step)) return end;
    end = record.end;
  }
  return null;
}

/** Cuts a file off after `keptBytes`; the whole of it is copied to `copy` first. */
export async function cutEvents(file: string, keptBytes: number, copy: string): Promise<void> {
  await copyFile(file, copy);
  await truncate(file, keptBytes);
}
