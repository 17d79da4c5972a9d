/** Writes a TensorBoard event file, event after event. */

import { type FileHandle, open } from 'node:fs/promises';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { EventSchema } from './event_pb.js';
import { encodeRecord } from './records.js';

/** What waits for a disk that takes nothing; beyond it the oldest events are given up. */
const MAX_WAITING_BYTES = 16 * 2 ** 20;

export class EventFile {
  readonly path: string;
  #file: FileHandle | null = null;
  /** Bytes that are written. */
  #size = 0;
  #waiting: Buffer[] = [];

  /** @param path made by the first {@link flush}; must not exist then */
  constructor(path: string) {
    this.path = path;
    this.add({ wallTime: Date.now() / 1000, what: { case: 'fileVersion', value: 'brain.Event:2' } });
  }

  /** Adds an event; {@link flush} writes it. */
  add(event: MessageInitShape<typeof EventSchema>): void {
    this.#waiting.push(encodeRecord(toBinary(EventSchema, create(EventSchema, event))));
  }

  /**
   * Writes what was added. After a failure nothing of it is in the file, and the next call tries all of it again.
   * @throws the file system's error
   */
  async flush(): Promise<void> {
    if (!this.#waiting.length) return;
    this.#file ??= await open(this.path, 'wx');
    const bytes = Buffer.concat(this.#waiting);
    try {
      for (let at = 0; at < bytes.length; )
        at += (await this.#file.write(bytes, at, bytes.length - at, this.#size + at)).bytesWritten;
    } catch (error) {
      await this.#file.truncate(this.#size);
      this.#forgetOldest();
      throw error;
    }
    this.#size += bytes.length;
    this.#waiting = [];
  }

  /** The first record of a file is kept: it says what the file is. */
  #forgetOldest(): void {
    const first = this.#size === 0 ? 1 : 0;
    let bytes = this.#waiting.reduce((sum, { length }) => sum + length, 0);
    while (bytes > MAX_WAITING_BYTES) bytes -= this.#waiting.splice(first, 1)[0].length;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
  }
}
