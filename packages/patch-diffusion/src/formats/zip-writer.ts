/**
 * A zip archive, written member by member as they come: stored without compression, dated 1 January 1980, so that the
 * same contents give the same bytes. ZIP64 records are written where the file is longer than 4 GiB or has more than
 * 65,534 members. Limit: a single member has less than 4 GiB.
 */
import { Buffer } from 'node:buffer';
import { crc32 } from 'node:zlib';

const LIMIT = 0xffffffff;
/** 1 January 1980, the zip format's zero. */
const DOS_DATE = 0x21;

export interface Member {
  readonly name: string;
  readonly data: Uint8Array;
}

/** Makes what stands around the members' data. It keeps the directory, about 100 bytes per member, and no data. */
export class ZipEncoder {
  readonly #alignment: number;
  readonly #directory: Uint8Array[] = [];
  #at = 0;

  /** @param alignment of the data of each member in the file, in bytes; padding goes into an extra field `FB` */
  constructor({ alignment = 1 } = {}) {
    this.#alignment = alignment;
  }

  /** What precedes the data of the next member. */
  header(name: string, data: Uint8Array): Uint8Array {
    if (data.length >= LIMIT) throw new RangeError(`internal: zip member ${name} of ${data.length} bytes`);
    const bytes = Buffer.from(name);
    const crc = crc32(data);
    const local = localHeader(bytes, data.length, crc, this.#at, this.#alignment);
    this.#directory.push(centralHeader(bytes, data.length, crc, this.#at));
    this.#at += local.length + data.length;
    return local;
  }

  /** What follows the last member. */
  end(): Uint8Array {
    const central = Buffer.concat(this.#directory);
    return Buffer.concat([central, endOfArchive(this.#directory.length, central.length, this.#at)]);
  }
}

/** Yields the archive in parts; one member's data is in memory at a time. */
export async function* zipArchive(
  members: AsyncIterable<Member> | Iterable<Member>,
  options: { alignment?: number } = {},
): AsyncGenerator<Uint8Array> {
  const zip = new ZipEncoder(options);
  for await (const { name, data } of members) {
    yield zip.header(name, data);
    yield data;
  }
  yield zip.end();
}

/** Fields that the local and the central header share: version, flags (UTF-8 names), method, time, sums and sizes. */
function common(header: Buffer, at: number, version: number, name: Buffer, size: number, crc: number): void {
  header.writeUInt16LE(version, at);
  header.writeUInt16LE(0x0800, at + 2);
  header.writeUInt16LE(0, at + 4);
  header.writeUInt16LE(0, at + 6);
  header.writeUInt16LE(DOS_DATE, at + 8);
  header.writeUInt32LE(crc, at + 10);
  header.writeUInt32LE(size, at + 14);
  header.writeUInt32LE(size, at + 18);
  header.writeUInt16LE(name.length, at + 22);
}

function localHeader(name: Buffer, size: number, crc: number, at: number, alignment: number): Buffer {
  const header = Buffer.alloc(30);
  header.writeUInt32LE(0x04034b50, 0);
  common(header, 4, 20, name, size, crc);
  if (alignment === 1) return Buffer.concat([header, name]);
  const begin = at + 30 + name.length + 4;
  const padding = Buffer.alloc(4 + ((alignment - (begin % alignment)) % alignment), 'Z');
  padding.write('FB', 0, 'latin1');
  padding.writeUInt16LE(padding.length - 4, 2);
  header.writeUInt16LE(padding.length, 28);
  return Buffer.concat([header, name, padding]);
}

function centralHeader(name: Buffer, size: number, crc: number, at: number): Buffer {
  const isFar = at >= LIMIT;
  const header = Buffer.alloc(46);
  header.writeUInt32LE(0x02014b50, 0);
  header.writeUInt16LE(45, 4);
  common(header, 6, isFar ? 45 : 20, name, size, crc);
  header.writeUInt32LE(isFar ? LIMIT : at, 42);
  if (!isFar) return Buffer.concat([header, name]);
  const zip64 = Buffer.alloc(12);
  zip64.writeUInt16LE(1, 0);
  zip64.writeUInt16LE(8, 2);
  zip64.writeBigUInt64LE(BigInt(at), 4);
  header.writeUInt16LE(zip64.length, 30);
  return Buffer.concat([header, name, zip64]);
}

function endOfArchive(count: number, size: number, at: number): Buffer {
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Math.min(count, 0xffff), 8);
  end.writeUInt16LE(Math.min(count, 0xffff), 10);
  end.writeUInt32LE(Math.min(size, LIMIT), 12);
  end.writeUInt32LE(Math.min(at, LIMIT), 16);
  if (at < LIMIT && count < 0xffff) return end;
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(44n, 4);
  record.writeUInt16LE(45, 12);
  record.writeUInt16LE(45, 14);
  record.writeBigUInt64LE(BigInt(count), 24);
  record.writeBigUInt64LE(BigInt(count), 32);
  record.writeBigUInt64LE(BigInt(size), 40);
  record.writeBigUInt64LE(BigInt(at), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(at + size), 8);
  locator.writeUInt32LE(1, 16);
  return Buffer.concat([record, locator, end]);
}
