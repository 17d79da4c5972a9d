/** Reads event files back. */
import { readFile } from 'node:fs/promises';
import { fromBinary } from '@bufbuild/protobuf';
import { type Event, EventSchema } from '../../src/formats/tensorboard/event_pb.js';
import { decodeRecords } from '../../src/formats/tensorboard/records.js';

/** The events of a file; it must be whole. */
export async function readEvents(path: string): Promise<Event[]> {
  const file = await readFile(path);
  const records = [...decodeRecords(file)];
  if (records.at(-1)?.end !== file.length) throw new Error(`${path} has a damaged record`);
  return records.map(({ contents }) => fromBinary(EventSchema, contents));
}
