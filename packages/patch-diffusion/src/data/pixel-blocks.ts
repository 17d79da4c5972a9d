/**
 * Memory for images of one size, in blocks: an engine's buffers have a limit (4 GiB in Node 20), sets of images have
 * none. An image never spans two blocks, so whoever reads one works on a plain array.
 */
import os from 'node:os';
import { UserError } from '../common/errors.js';

const BLOCK_BYTES = 2 ** 30;

export class PixelBlocks {
  readonly #blocks: Uint8Array[] = [];
  readonly #imagesPerBlock: number;

  /**
   * @param path the data, for messages
   * @throws UserError if the images do not fit into memory
   */
  constructor(
    count: number,
    readonly imageBytes: number,
    path: string,
    blockBytes = BLOCK_BYTES,
  ) {
    this.#imagesPerBlock = Math.max(1, Math.floor(blockBytes / imageBytes));
    const bytes = count * imageBytes;
    const memory = Math.min(os.totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
    if (bytes > memory) throw tooLarge(path, bytes, `more than the ${gib(memory)} that there are`);
    try {
      for (let left = count; left > 0; left -= this.#imagesPerBlock) {
        this.#blocks.push(new Uint8Array(Math.min(left, this.#imagesPerBlock) * imageBytes));
      }
    } catch {
      throw tooLarge(path, bytes, 'more than the system gives now');
    }
  }

  /** The block that holds an image. */
  block(image: number): Uint8Array {
    return this.#blocks[Math.floor(image / this.#imagesPerBlock)];
  }

  /** Where in its block an image begins. */
  offset(image: number): number {
    return (image % this.#imagesPerBlock) * this.imageBytes;
  }

  /** The memory of the first `count` images, block after block. */
  parts(count: number): Uint8Array[] {
    return this.#blocks.map((block, i) => {
      const images = Math.min(this.#imagesPerBlock, count - i * this.#imagesPerBlock);
      return block.subarray(0, images * this.imageBytes);
    });
  }

  /** Puts a copy of one image in the place of another. */
  copy(from: number, to: number): void {
    const start = this.offset(from);
    this.block(to).set(this.block(from).subarray(start, start + this.imageBytes), this.offset(to));
  }

  /** Gives back the blocks behind the first `count` images. */
  truncate(count: number): void {
    this.#blocks.length = Math.ceil(count / this.#imagesPerBlock);
  }
}

function tooLarge(path: string, bytes: number, than: string): UserError {
  return new UserError(
    'DATA_TOO_LARGE',
    `The images of ${path} take ${gib(bytes)} in memory, ${than}; use a lower resolution or --max-images`,
  );
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
