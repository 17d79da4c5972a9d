/**
 * TFRecord, the framing of TensorBoard's event files: for each record its length (uint64, little-endian), a checksum of
 * the length, the bytes, a checksum of the bytes. The checksum is CRC-32C (Castagnoli, RFC 3720), rotated and shifted so
 * that it can be stored beside data that has checksums of its own.
 */

/** Bytes of a record beside its contents. */
const HEAD = 12;
const TAIL = 4;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C of the bytes, 0 … 2³² − 1. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return ~crc >>> 0;
}

function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** A record with its frame. */
export function encodeRecord(contents: Uint8Array): Buffer {
  const record = Buffer.alloc(HEAD + contents.length + TAIL);
  record.writeBigUInt64LE(BigInt(contents.length), 0);
  record.writeUInt32LE(masked(record.subarray(0, 8)), 8);
  record.set(contents, HEAD);
  record.writeUInt32LE(masked(contents), HEAD + contents.length);
  return record;
}

/** A record in a file, and where it ends there. */
export interface PlacedRecord {
  readonly contents: Buffer;
  readonly end: number;
}

/** The records of a file up to its end or the first that is cut off or damaged. */
export function* decodeRecords(file: Buffer): Generator<PlacedRecord> {
  for (let at = 0; at + HEAD + TAIL <= file.length; ) {
    const length = file.readBigUInt64LE(at);
    if (masked(file.subarray(at, at + 8)) !== file.readUInt32LE(at + 8)) return;
    if (length > BigInt(file.length - at - HEAD - TAIL)) return;
    const start = at + HEAD;
    const stop = start + Number(length);
    const contents = file.subarray(start, stop);
    if (masked(contents) !== file.readUInt32LE(stop)) return;
    at = stop + TAIL;
    yield { contents, end: at };
  }
}
