import os from 'node:os';
import { describe, expect, it } from 'vitest';
import { PixelBlocks } from '../../src/data/pixel-blocks.js';

describe('PixelBlocks', () => {
  it('keeps each image in one block', () => {
    const blocks = new PixelBlocks(5, 4, 'photos', 11);
    for (let i = 0; i < 5; i++) blocks.block(i).fill(i + 1, blocks.offset(i), blocks.offset(i) + 4);
    expect([0, 1, 2, 3, 4].map((i) => [blocks.block(i).length, blocks.offset(i)])).toEqual([
      [8, 0],
      [8, 4],
      [8, 0],
      [8, 4],
      [4, 0],
    ]);
    blocks.copy(4, 1);
    expect([...blocks.block(1)]).toEqual([1, 1, 1, 1, 5, 5, 5, 5]);
    blocks.truncate(2);
    expect(blocks.block(2)).toBeUndefined();
  });

  it('holds an image that is larger than a block', () => {
    const blocks = new PixelBlocks(2, 8, 'photos', 3);
    expect([blocks.block(1).length, blocks.offset(1)]).toEqual([8, 0]);
  });

  it('says how much there is when images do not fit', () => {
    const images = Math.ceil(os.totalmem() / 2 ** 20) + 1;
    expect(() => new PixelBlocks(images, 2 ** 20, 'photos')).toThrow(
      /The images of photos take \d.* GiB in memory, more than the \d+\.\d GiB that there are; use a lower/,
    );
  });

  // Memory is only claimed here, not touched.
  it.skipIf(os.freemem() < 6 * 2 ** 30)('holds more than the engine gives in one piece', () => {
    const blocks = new PixelBlocks(5 * 2 ** 10, 2 ** 20, 'photos');
    expect(blocks.block(5 * 2 ** 10 - 1).length).toBe(2 ** 30);
  });
});
