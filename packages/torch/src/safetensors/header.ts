/**
 * The safetensors header: 8 bytes little-endian length, a JSON object, then one data block.
 * Format: the "Format" section of the safetensors documentation. The grammar of a header is so small that it is
 * parsed directly, not through a general JSON value: every byte is looked at once, nothing is built but
 * the entries, names such as `__proto__` are only map keys, and an error says at which byte it is.
 * No Node and no native imports: browsers use this file too.
 */
import { SafetensorsError } from './error.js';

/** Element types that the format knows and this reader can measure. */
export type SafetensorsDType =
  | 'F64'
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'I64'
  | 'I32'
  | 'I16'
  | 'I8'
  | 'U64'
  | 'U32'
  | 'U16'
  | 'U8'
  | 'BOOL';

/** Bytes per element. */
export const ITEM_BYTES: ReadonlyMap<string, number> = new Map<SafetensorsDType, number>([
  ['F64', 8],
  ['F32', 4],
  ['F16', 2],
  ['BF16', 2],
  ['F8_E4M3', 1],
  ['F8_E5M2', 1],
  ['I64', 8],
  ['I32', 4],
  ['I16', 2],
  ['I8', 1],
  ['U64', 8],
  ['U32', 4],
  ['U16', 2],
  ['U8', 1],
  ['BOOL', 1],
]);

/** Where and what one tensor is; offsets in bytes from the start of the data block. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** A checked header; `entries` are in the order of the header. */
export interface SafetensorsHeader {
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Record<string, string>;
}

/** The reference implementation's limit; far more than any real file needs. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_DIMS = 64;

/**
 * Reads the length field and checks it against the file.
 *
 * @param prefix - The first 8 bytes of the file (fewer if the file is shorter).
 * @param fileBytes - Size of the whole file.
 * @returns Length of the JSON text in bytes.
 * @throws SafetensorsError if the file is too short or the length is impossible.
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (fileBytes < 8 || prefix.length < 8) {
    throw new SafetensorsError(
      file,
      'truncated',
      `it has ${fileBytes} bytes, the header's length alone takes 8`,
    );
  }
  // What git leaves in place of a large file: "version https://git-lfs…", some lines of text.
  if (new TextDecoder('latin1').decode(prefix) === 'version ') {
    const what = 'this is a git-lfs pointer, not the file itself; run `git lfs pull` where it was cloned';
    throw new SafetensorsError(file, 'bad-header', what);
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      file,
      'bad-header',
      `its header claims ${length} bytes (limit ${MAX_HEADER_BYTES}); this is not a safetensors file`,
    );
  }
  if (length > fileBytes - 8) {
    throw new SafetensorsError(
      file,
      'truncated',
      `its header takes ${length} bytes, but only ${fileBytes - 8} follow; copy or download it again`,
    );
  }
  return length;
}

/**
 * Parses and checks a header's JSON text.
 *
 * @param json - The header's bytes, without the length field.
 * @param dataBytes - Size of the data block; entries must cover it exactly, without gap or overlap.
 * @param file - Name for error messages.
 * @throws SafetensorsError naming the file, the tensor or byte, and what is wrong.
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): SafetensorsHeader {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch {
    throw new SafetensorsError(file, 'bad-header', 'its header is not valid UTF-8');
  }
  const header = new HeaderParser(text, file).parse();
  checkLayout([...header.entries.values()], dataBytes, file);
  return header;
}

/** The entries must tile the data block: hidden gaps and shared bytes are how malicious files are made. */
function checkLayout(entries: TensorEntry[], dataBytes: number, file: string): void {
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  let previous = '';
  for (const { name, begin, end } of entries) {
    if (end > dataBytes) {
      const lack = `tensor ${show(name)} ends at byte ${end} of the data, but the file has ${dataBytes}`;
      throw new SafetensorsError(file, 'truncated', `${lack}; copy or download it again`);
    }
    if (begin < at) {
      const what = `tensor ${show(name)} (from byte ${begin}) overlaps ${show(previous)} (to byte ${at})`;
      throw new SafetensorsError(file, 'bad-header', what);
    }
    if (begin > at) {
      throw new SafetensorsError(
        file,
        'bad-header',
        `bytes ${at} to ${begin} of the data belong to no tensor`,
      );
    }
    at = end;
    previous = name;
  }
  if (at !== dataBytes) {
    const what = `${dataBytes - at} bytes follow the last tensor; the header does not fit the data`;
    throw new SafetensorsError(file, 'bad-header', what);
  }
}

/** Recursive descent over exactly what a header may hold; depth is fixed by the grammar. */
class HeaderParser {
  readonly #text: string;
  readonly #file: string;
  #at = 0;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  parse(): SafetensorsHeader {
    const entries = new Map<string, TensorEntry>();
    const metadata = new Map<string, string>();
    if (this.#text[0] !== '{') this.#fail('expected "{" first');
    this.#object((key) => {
      if (key === '__metadata__') {
        this.#object((name) => metadata.set(name, this.#string()));
      } else {
        entries.set(key, this.#entry(key));
      }
    });
    this.#space();
    if (this.#at < this.#text.length) this.#fail('unexpected text after the closing "}"');
    // fromEntries defines own properties, so that a key `__proto__` is data and nothing else.
    return { entries, metadata: Object.fromEntries(metadata) };
  }

  #entry(name: string): TensorEntry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.#object((key) => {
      if (key === 'dtype') dtype = this.#string();
      else if (key === 'shape') shape = this.#integers();
      else if (key === 'data_offsets') offsets = this.#integers();
      else this.#fail(`tensor ${show(name)} has an unknown field ${show(key)}`);
    });
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      return this.#fail(`tensor ${show(name)} needs dtype, shape and data_offsets`);
    }
    const itemBytes = ITEM_BYTES.get(dtype);
    if (itemBytes === undefined)
      return this.#fail(`tensor ${show(name)} has the unknown dtype ${show(dtype)}`);
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined || offsets.length !== 2 || end < begin) {
      return this.#fail(
        `tensor ${show(name)} has data_offsets [${offsets.slice(0, 4)}]; expected [begin, end]`,
      );
    }
    // Zero-sized dimensions must not hide a product that no stride could hold.
    const extent = shape.reduce((product, dim) => product * Math.max(dim, 1), itemBytes);
    const bytes = shape.reduce((product, dim) => product * dim, itemBytes);
    if (!Number.isSafeInteger(extent)) {
      return this.#fail(`tensor ${show(name)} has the shape [${shape}], which is too large`);
    }
    if (bytes !== end - begin) {
      return this.#fail(
        `tensor ${show(name)}, ${dtype} of shape [${shape}], needs ${bytes} bytes, its data_offsets span ${end - begin}`,
      );
    }
    return { name, dtype: dtype as SafetensorsDType, shape, begin, end };
  }

  /** `{ "key": <value read by member>, … }` with every key once. */
  #object(member: (key: string) => void): void {
    const seen = new Set<string>();
    this.#expect('{');
    if (this.#take('}')) return;
    do {
      this.#space();
      const key = this.#string();
      if (seen.has(key)) this.#fail(`the name ${show(key)} occurs twice`);
      seen.add(key);
      this.#expect(':');
      member(key);
    } while (this.#take(','));
    this.#expect('}');
  }

  #integers(): number[] {
    const values: number[] = [];
    this.#expect('[');
    if (this.#take(']')) return values;
    do {
      this.#space();
      const digits = this.#match(/(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y);
      const value = Number(digits);
      if (digits === undefined || !Number.isSafeInteger(value))
        this.#fail('expected a whole number below 2^53');
      if (values.push(value) > MAX_DIMS) this.#fail(`a list of more than ${MAX_DIMS} numbers`);
    } while (this.#take(','));
    this.#expect(']');
    return values;
  }

  #string(): string {
    this.#space();
    if (this.#text[this.#at] !== '"') return this.#fail('expected a string');
    let end = this.#at;
    let backslashes: number;
    do {
      end = this.#text.indexOf('"', end + 1);
      if (end < 0) return this.#fail('a string without its closing quote');
      backslashes = 0;
      while (this.#text[end - 1 - backslashes] === '\\') backslashes++;
    } while (backslashes % 2 === 1); // an escaped quote is not the closing one
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(this.#at, end + 1)) as string;
    } catch {
      return this.#fail('malformed string');
    }
    this.#at = end + 1;
    if (/\p{Surrogate}/u.test(value)) this.#fail('a string holds half a surrogate pair');
    return value;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #space(): void {
    this.#match(/[ \t\n\r]*/y);
  }

  #take(char: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #expect(char: string): void {
    if (!this.#take(char)) this.#fail(`expected ${show(char)}`);
  }

  #fail(what: string): never {
    const where = `at character ${this.#at} of its header`;
    throw new SafetensorsError(this.#file, 'bad-header', `${what} (${where})`);
  }
}

/** Quotes untrusted text for a message: no control characters, at most 80 characters. */
export function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
