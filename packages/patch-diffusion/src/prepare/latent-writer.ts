/**
 * Writes a file of latents image by image, whose number is known only at the end: room for the header is kept free,
 * the header is written last, and the file gets its name when it is complete.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { removeLeftovers, temporaryPath } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import type { LatentFileInfo } from '../data/latents.js';
import type { Label } from '../diffusion/labels.js';
import { METADATA_KEY } from '../formats/file-description.js';
import { checkLatentTarget, writeError } from './dataset-writer.js';

/** Shape of one image's moments: 1 or 2 copies × mean, standard deviation × C × h × w. */
export type MomentsShape = readonly [
  copies: 1 | 2,
  moments: 2,
  channels: number,
  height: number,
  width: number,
];

/** Numbers whose length is not known when the room is measured. */
const HEADER_SLACK_BYTES = 8192;

export class LatentWriter {
  #count = 0;
  #position: number;

  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #headerBytes: number;

  private constructor(path: string, temporary: string, file: FileHandle, headerBytes: number) {
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
    this.#headerBytes = headerBytes;
    this.#position = headerBytes;
  }

  /**
   * Begins a file.
   * @param draft what is known of the description; the rest must be short
   * @throws UserError if something is there already (without `force`) or the place cannot be written to
   */
  static async create(path: string, draft: object, { force = false } = {}): Promise<LatentWriter> {
    await checkLatentTarget(path, force);
    const target = resolve(path);
    const temporary = temporaryPath(target);
    try {
      makeFolder(dirname(target));
      await removeLeftovers(dirname(target));
      const room = Buffer.byteLength(JSON.stringify(JSON.stringify(draft))) + HEADER_SLACK_BYTES;
      return new LatentWriter(target, temporary, await open(temporary, 'wx'), Math.ceil(room / 8) * 8);
    } catch (error) {
      throw writeError(error, path);
    }
  }

  /** Appends `count` images' moments: raw bytes in the order of the format. */
  async add(bytes: Uint8Array, count: number): Promise<void> {
    await this.#write(bytes, this.#position);
    this.#position += bytes.length;
    this.#count += count;
  }

  /** Completes the file and puts it under its name. @returns its size in bytes */
  async finish(
    info: LatentFileInfo,
    layout: { readonly dtype: 'float16' | 'float32'; readonly shape: MomentsShape },
    labels: readonly Label[] | null,
  ): Promise<number> {
    const momentsBytes = this.#position - this.#headerBytes;
    const tensors: Record<string, object> = {
      moments: {
        dtype: layout.dtype === 'float16' ? 'F16' : 'F32',
        shape: [this.#count, ...layout.shape],
        data_offsets: [0, momentsBytes],
      },
    };
    if (labels !== null) {
      const { dtype, shape, bytes } = encodeLabels(labels);
      tensors.labels = { dtype, shape, data_offsets: [momentsBytes, momentsBytes + bytes.length] };
      await this.#write(bytes, this.#position);
      this.#position += bytes.length;
    }
    const header = Buffer.alloc(this.#headerBytes, ' ');
    header.writeBigUInt64LE(BigInt(this.#headerBytes - 8), 0);
    header.write(this.#headerText(info, tensors), 8);
    await this.#write(header, 0);
    try {
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#temporary, this.#path);
    } catch (error) {
      throw writeError(error, this.#path);
    }
    return this.#position;
  }

  /** Names of skipped files may be long: as many are listed as the room is for. */
  #headerText(info: LatentFileInfo, tensors: Record<string, object>): string {
    const { source } = info;
    for (let listed = source.skipped.length; listed >= 0; listed--) {
      const description = { ...info, source: { ...source, skipped: source.skipped.slice(0, listed) } };
      const metadata = { [METADATA_KEY]: JSON.stringify(description) };
      const text = JSON.stringify({ __metadata__: metadata, ...tensors });
      if (Buffer.byteLength(text) <= this.#headerBytes - 8) return text;
    }
    throw new RangeError('internal: the header outgrew its room');
  }

  /** Removes everything written so far. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(this.#temporary, { force: true });
  }

  async #write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) {
        at += (await this.#file.write(bytes, at, Math.min(bytes.length - at, 1 << 30), position + at))
          .bytesWritten;
      }
    } catch (error) {
      throw writeError(error, this.#path);
    }
  }
}

function encodeLabels(labels: readonly Label[]): { dtype: string; shape: number[]; bytes: Uint8Array } {
  const first = labels[0];
  if (typeof first === 'number') {
    const classes = BigInt64Array.from(labels as number[], BigInt);
    return { dtype: 'I64', shape: [labels.length], bytes: new Uint8Array(classes.buffer) };
  }
  const vectors = Float32Array.from((labels as number[][]).flat());
  return { dtype: 'F32', shape: [labels.length, first.length], bytes: new Uint8Array(vectors.buffer) };
}
