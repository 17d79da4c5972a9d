/** Sampled pictures, and what a page makes of them. */
import type { Label } from './options.js';

/** A picture as plain data. */
export interface PictureData {
  readonly seed: number;
  /** Class or label that it was drawn with; null for a network without. */
  readonly label: Label | null;
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and opacity of each pixel, row by row. */
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;
}

/** A sampled picture. */
export class Picture implements PictureData {
  readonly seed: number;
  readonly label: Label | null;
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;

  constructor({ seed, label, width, height, rgba }: PictureData) {
    this.seed = seed;
    this.label = label;
    this.width = width;
    this.height = height;
    this.rgba = rgba;
  }

  toImageData(): ImageData {
    return new ImageData(this.rgba, this.width, this.height);
  }

  /** Draws the picture on a canvas, by default on a new one; the canvas gets the picture's size. */
  toCanvas(canvas = document.createElement('canvas')): HTMLCanvasElement {
    canvas.width = this.width;
    canvas.height = this.height;
    canvas.getContext('2d')?.putImageData(this.toImageData(), 0, 0);
    return canvas;
  }

  /** The picture as a file, such as `image/png` or `image/jpeg`. */
  async toBlob(type = 'image/png', quality?: number): Promise<Blob> {
    const canvas = new OffscreenCanvas(this.width, this.height);
    canvas.getContext('2d')?.putImageData(this.toImageData(), 0, 0);
    return canvas.convertToBlob(quality === undefined ? { type } : { type, quality });
  }
}

/**
 * One sample as pixels: x·127.5 + 128, clipped, truncated, as `patch-diffusion generate` does.
 * @param values of one sample, roughly in [−1, 1], [C, H, W] with 1 (grey), 3 or 4 channels
 */
export function toRgba(values: Float64Array, channels: number): Uint8ClampedArray<ArrayBuffer> {
  const pixels = values.length / channels;
  const rgba = new Uint8ClampedArray(pixels * 4).fill(255);
  // Which channels of the picture each channel of the sample fills.
  const targets = channels === 1 ? [[0, 1, 2]] : Array.from({ length: channels }, (_, c) => [c]);
  for (const [c, fills] of targets.entries()) {
    for (let p = 0; p < pixels; p++) {
      const byte = Math.trunc(Math.min(Math.max(values[c * pixels + p] * 127.5 + 128, 0), 255));
      for (const target of fills) rgba[p * 4 + target] = byte;
    }
  }
  return rgba;
}
