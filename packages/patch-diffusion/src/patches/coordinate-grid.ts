/** The coordinate channels of a window of the image plane as plain numbers. Without Node or native imports. */
import { type Extent, POSITION_CHANNELS } from './extent.js';

/** A part of the image plane; outside of the image it is extrapolated. */
export interface Window extends Extent {
  /** Left and top edge in pixels of the training images' plane; 0 by default. */
  readonly xStart?: number;
  readonly yStart?: number;
}

/**
 * Channel 0 is x (grows with the column), channel 1 is y (grows with the row), each scaled so that the whole image spans
 * [−1, 1]: position p of `size` pixels → (p / (size − 1) − ½) · 2, every operation in float32.
 * @returns [2, H, W]
 * @example
 * ```ts
 * const image = { height: 64, width: 64 };
 * const grid = coordinateGrid({ height: 32, width: 32, xStart: 16, yStart: 16 }, image); // 2 · 32 · 32 numbers
 * ```
 */
export function coordinateGrid(window: Window, image: Extent): Float32Array {
  const { height, width, xStart = 0, yStart = 0 } = window;
  const grid = new Float32Array(POSITION_CHANNELS * height * width);
  for (let row = 0; row < height; row++) {
    for (let col = 0; col < width; col++) {
      const pixel = row * width + col;
      grid[pixel] = scaleToUnit(xStart + col, image.width);
      grid[height * width + pixel] = scaleToUnit(yStart + row, image.height);
    }
  }
  return grid;
}

function scaleToUnit(position: number, size: number): number {
  return Math.fround(Math.fround(position / (size - 1)) - 0.5) * 2;
}
