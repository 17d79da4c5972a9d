/**
 * The zip container of `torch.save` (PyTorch ≥ 1.6): a pickle and one uncompressed member per storage. Members are
 * located, never extracted; tensor data stays in the file.
 */
import { Readable } from 'node:stream';
import yauzl, { type Entry } from 'yauzl';
import type { Budget } from '../pickle/budget.js';
import { show } from '../pickle/budget.js';
import { ByteSlice, type ByteSource } from '../pickle/byte-source.js';
import { readPickle } from '../pickle/pickle.js';
import { setState, storageOf, torchGlobals } from './globals.js';
import type { StorageRef } from './tensors.js';

const LOCAL_HEADER_BYTES = 30;
const LOCAL_SIGNATURE = 0x04034b50;
const MAX_ENTRIES = 100_000;
const ENTRY_COST_BYTES = 600;

/** Reads the object that the archive holds. */
export async function readTorchZip(source: ByteSource, budget: Budget): Promise<unknown> {
  const members = await locateMembers(source, budget);
  const pickle = [...members.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (pickle.length !== 1) budget.fail('it is a zip file without a data.pkl, so not one of PyTorch');
  const folder = pickle[0].slice(0, -'data.pkl'.length);
  const order = members.get(`${folder}byteorder`);
  if (order && order.size < 16 && Buffer.from(order.bytes()).toString('latin1') !== 'little') {
    budget.fail('it was written on a big-endian machine');
  }
  const storages = new Map<string, StorageRef>();
  const globals = torchGlobals(budget, null);
  const host = {
    find: (name: string) => globals.get(name),
    persistent: (id: unknown) => persistent(id, storages, members, folder, budget),
    build: setState,
  };
  return readPickle(members.get(pickle[0])!, 0, host, budget).value;
}

/** `('storage', type, key, location, count)`. */
function persistent(
  id: unknown,
  storages: Map<string, StorageRef>,
  members: ReadonlyMap<string, ByteSlice>,
  folder: string,
  budget: Budget,
): StorageRef {
  const [kind, type, key, , count] = (Array.isArray(id) ? id : []) as unknown[];
  if (kind !== 'storage' || typeof key !== 'string') budget.fail('a reference of unknown form');
  const known = storages.get(key);
  if (known) {
    return known.count === count ? known : budget.fail(`storage ${show(key)} has two lengths`);
  }
  const storage = storageOf(type, count, budget);
  const data = members.get(`${folder}data/${key}`);
  if (data === undefined) budget.fail(`the data of storage ${show(key)} is missing`);
  if (data.size !== storage.count * storage.type.bytes) {
    budget.fail(
      `storage ${show(key)} has ${data.size} bytes where ${storage.count * storage.type.bytes} are expected`,
    );
  }
  storage.data = data;
  storages.set(key, storage);
  return storage;
}

/** All members by name. The central directory counts; of the local headers only their lengths are used. */
async function locateMembers(source: ByteSource, budget: Budget): Promise<ReadonlyMap<string, ByteSlice>> {
  const members = new Map<string, ByteSlice>();
  for (const entry of await readDirectory(source, budget)) {
    const { fileName, compressionMethod, uncompressedSize: size } = entry;
    if (members.has(fileName)) budget.fail(`the member ${show(fileName)} occurs twice`);
    if (compressionMethod !== 0 || entry.compressedSize !== size || entry.isEncrypted()) {
      budget.fail(`the member ${show(fileName)} is compressed or encrypted, which PyTorch does not do`);
    }
    const at = entry.relativeOffsetOfLocalHeader;
    if (at + LOCAL_HEADER_BYTES > source.size)
      budget.fail(`the member ${show(fileName)} lies outside the file`);
    const bytes = source.read(at, at + LOCAL_HEADER_BYTES);
    const head = new DataView(bytes.buffer, bytes.byteOffset, LOCAL_HEADER_BYTES);
    if (head.getUint32(0, true) !== LOCAL_SIGNATURE)
      budget.fail(`the member ${show(fileName)} is not where it should be`);
    // The extra field pads the data to 64 bytes; its length is only known here.
    const begin = at + LOCAL_HEADER_BYTES + head.getUint16(26, true) + head.getUint16(28, true);
    if (begin + size > source.size)
      budget.fail(`it ends at byte ${source.size}, inside the member ${show(fileName)}`);
    members.set(fileName, new ByteSlice(source, begin, size));
  }
  return members;
}

/** Lets yauzl read from memory or a file alike. */
class SourceReader extends yauzl.RandomAccessReader {
  constructor(readonly source: ByteSource) {
    super();
  }

  override _readStreamForRange(start: number, end: number): Readable {
    return Readable.from([Buffer.from(this.source.read(start, end))]);
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    try {
      if (position < 0 || position + length > this.source.size) throw new Error('unexpected end of the file');
      buffer.set(this.source.read(position, position + length), offset);
    } catch (error) {
      process.nextTick(callback, error as Error);
      return;
    }
    process.nextTick(callback, null);
  }
}

function readDirectory(source: ByteSource, budget: Budget): Promise<Entry[]> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) => {
      try {
        budget.fail(
          `its zip directory is damaged (${error instanceof Error ? error.message : String(error)})`,
        );
      } catch (userError) {
        reject(userError);
      }
    };
    const options = { lazyEntries: true, autoClose: false, validateEntrySizes: false };
    yauzl.fromRandomAccessReader(new SourceReader(source), source.size, options, (error, zip) => {
      if (error) return fail(error);
      const entries: Entry[] = [];
      zip.on('error', fail);
      zip.on('end', () => resolve(entries));
      zip.on('entry', (entry: Entry) => {
        try {
          budget.memory(ENTRY_COST_BYTES);
          budget.steps(46);
          if (entries.push(entry) > MAX_ENTRIES) budget.fail(`it has more than ${MAX_ENTRIES} members`);
        } catch (userError) {
          return reject(userError);
        }
        zip.readEntry();
      });
      zip.readEntry();
    });
  });
}
