/** Uncompressed TIFFs of flat colour, with any bands. */

export interface TiffOptions {
  /** The bands of each pixel, as stored. */
  readonly values: readonly number[];
  readonly bits?: number;
  /** 1 unsigned, 2 signed, 3 floating-point. */
  readonly sampleFormat?: number;
  /** Photometric interpretation: 1 grey, 2 RGB, 5 CMYK. */
  readonly photometric: number;
  /** Meaning of the bands beyond the colours: 0 not said, 1 and 2 opacity. */
  readonly extra?: readonly number[];
  /** Pixels; default 1. */
  readonly side?: number;
  readonly bigEndian?: boolean;
  /** BigTIFF: 64-bit offsets. */
  readonly isBig?: boolean;
}

export function tiffBytes(options: TiffOptions): Buffer {
  const { values, bits = 8, sampleFormat = 1, photometric, extra = [], side = 1 } = options;
  const { bigEndian = false, isBig = false } = options;
  const u16 = (value: number) => number(value, 2);
  const [wordBytes, inline, start] = isBig ? [8, 8, 16] : [4, 4, 8];
  const word = (value: number) => number(value, wordBytes);
  function number(value: number, bytes: number): Buffer {
    const buffer = Buffer.alloc(bytes);
    for (let i = 0; i < bytes; i++)
      buffer[bigEndian ? bytes - 1 - i : i] = Number((BigInt(value) >> BigInt(8 * i)) & 255n);
    return buffer;
  }
  function sample(value: number): Buffer {
    if (sampleFormat !== 3) return number(value, bits / 8);
    const buffer = Buffer.alloc(4);
    if (bigEndian) buffer.writeFloatBE(value);
    else buffer.writeFloatLE(value);
    return buffer;
  }
  const pixel = Buffer.concat(values.map(sample));
  const pixels = Buffer.concat(Array.from({ length: side * side }, () => pixel));
  const fields: [tag: number, values: readonly number[]][] = [
    [256, [side]], // width
    [257, [side]], // height
    [258, values.map(() => bits)],
    [259, [1]], // not compressed
    [262, [photometric]],
    [273, [start]], // offset of the pixels
    [277, [values.length]],
    [278, [side]], // rows
    [279, [pixels.length]], // bytes
    ...(extra.length > 0 ? ([[338, extra]] as [number, readonly number[]][]) : []),
    [339, values.map(() => sampleFormat)],
  ];
  const directoryAt = start + pixels.length + (pixels.length % 2);
  const count = isBig ? word(fields.length) : u16(fields.length);
  let at = directoryAt + count.length + fields.length * (isBig ? 20 : 12) + wordBytes;
  const lists: Buffer[] = [];
  const directory = fields.map(([tag, list]) => {
    const body = Buffer.concat(list.map(u16));
    const entry = [u16(tag), u16(3), word(list.length)];
    if (body.length <= inline) return Buffer.concat([...entry, body, Buffer.alloc(inline - body.length)]);
    lists.push(body);
    at += body.length;
    return Buffer.concat([...entry, word(at - body.length)]);
  });
  const head = [
    Buffer.from(bigEndian ? 'MM' : 'II'),
    ...(isBig ? [u16(43), u16(8), u16(0)] : [u16(42)]),
    word(directoryAt),
  ];
  const padding = Buffer.alloc(pixels.length % 2);
  return Buffer.concat([...head, pixels, padding, count, ...directory, word(0), ...lists]);
}
