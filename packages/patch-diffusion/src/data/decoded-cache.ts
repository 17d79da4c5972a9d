/**
 * Decoded images in the user's cache folder: the next training on the same photos starts as quickly as on a prepared set.
 *
 * A file belongs to one list of files (names, sizes, times of change) and one way to decode them; any difference is another
 * file. It holds a line of JSON and the pixels, whose checksum is compared. Nothing here is ever an error: what cannot be
 * read is decoded again, and what cannot be written is left out.
 */
import { createHash } from 'node:crypto';
import { open, readdir, rm, stat, statfs, utimes } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { z } from 'zod';
import { version } from '../common/version.js';
import type { ImageSource } from './image-source.js';

const FORMAT = 1;
const ENDING = '.images';

/** Fewer images are decoded in no time. */
const MIN_IMAGES = 200;
/** Larger sets should be prepared. */
const MAX_BYTES = 2 ** 31;
/** What all files may take together, and how long one stays that nobody uses. */
const MAX_FOLDER_BYTES = 2 ** 33;
const MAX_AGE_MS = 60 * 24 * 3_600_000;
/** Longer descriptions are those of damaged files. */
const MAX_HEADER_BYTES = 2 ** 26;

const count = z.int().min(0);
const schema = z.object({
  format: z.literal(FORMAT),
  width: count,
  height: count,
  channels: z.union([z.literal(1), z.literal(3), z.literal(4)]),
  /** Index in the source of each image. */
  entries: z.array(count),
  skipped: z.array(z.object({ file: z.string(), reason: z.string() })),
  droppedBands: count,
  crc32: count,
});

/** What became of the files of a source. */
export type DecodedSet = Omit<z.infer<typeof schema>, 'format' | 'crc32'>;

export class DecodedCache {
  readonly #folder: string;
  readonly #file: string;

  /** @param options what else the images depend on */
  private constructor(folder: string, stamp: string, path: string, options: object) {
    const key = JSON.stringify([FORMAT, version, resolve(path), stamp, options]);
    this.#folder = join(folder, 'images');
    this.#file = join(
      this.#folder,
      `${createHash('sha256').update(key).digest('hex').slice(0, 32)}${ENDING}`,
    );
  }

  /** The cache of a source; null where it would not pay. */
  static of(folder: string, source: ImageSource, options: object): DecodedCache | null {
    if (source.names.length < MIN_IMAGES || !source.stamp) return null;
    return new DecodedCache(folder, source.stamp(), source.path, options);
  }

  /**
   * @param prepare gets what is known of the set and gives the memory for its pixels, part after part
   * @returns what `prepare` made; null where there is no such file, or it is damaged
   */
  async read<T>(
    prepare: (set: DecodedSet) => { readonly result: T; readonly pixels: readonly Uint8Array[] },
  ): Promise<T | null> {
    try {
      const file = await open(this.#file);
      try {
        const head = Buffer.alloc(4);
        await file.read(head, 0, 4, 0);
        const length = head.readUInt32LE();
        const { size } = await file.stat();
        if (length > Math.min(size, MAX_HEADER_BYTES)) return null;
        const json = Buffer.alloc(length);
        await file.read(json, 0, length, 4);
        const { crc32: expected, ...set } = schema.parse(JSON.parse(json.toString()));
        const { entries, channels, width, height } = set;
        if (size !== 4 + length + entries.length * channels * width * height) return null;
        const { result, pixels } = prepare(set);
        let at = 4 + length;
        let sum = 0;
        for (const part of pixels) {
          const { bytesRead } = await file.read(part, 0, part.length, at);
          if (bytesRead !== part.length) return null;
          at += part.length;
          sum = crc32(part, sum);
        }
        if (sum !== expected) return null;
        const now = new Date();
        await utimes(this.#file, now, now).catch(() => {});
        return result;
      } finally {
        await file.close();
      }
    } catch {
      return null;
    }
  }

  async write(set: DecodedSet, pixels: readonly Uint8Array[]): Promise<void> {
    const bytes = pixels.reduce((sum, { length }) => sum + length, 0);
    if (bytes > MAX_BYTES) return;
    try {
      makeFolder(this.#folder);
      const { bavail, bsize } = await statfs(this.#folder);
      if (bavail * bsize < 4 * bytes) return;
      const sum = pixels.reduce((value, part) => crc32(part, value), 0);
      const json = Buffer.from(JSON.stringify({ format: FORMAT, ...set, crc32: sum }));
      const head = Buffer.alloc(4);
      head.writeUInt32LE(json.length);
      await writeFileAtomic(this.#file, [head, json, ...pixels]);
      await this.#tidy();
    } catch {
      // The next start decodes again.
    }
  }

  /** Removes what nobody has used for long, and the oldest beyond the limit. */
  async #tidy(): Promise<void> {
    const names = (await readdir(this.#folder)).filter((name) => name.endsWith(ENDING));
    const files = await Promise.all(
      names.map(async (name) => {
        const { mtimeMs, size } = await stat(join(this.#folder, name));
        return { path: join(this.#folder, name), mtimeMs, size };
      }),
    );
    let total = 0;
    for (const { path, mtimeMs, size } of files.sort((a, b) => b.mtimeMs - a.mtimeMs)) {
      total += size;
      if (total > MAX_FOLDER_BYTES || Date.now() - mtimeMs > MAX_AGE_MS) await rm(path, { force: true });
    }
  }
}
