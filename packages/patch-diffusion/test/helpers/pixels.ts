/** Images in memory, as the metrics read them. */
import { Mt19937 } from '../../src/common/mt19937.js';
import type { Pixels } from '../../src/evaluation/pixels.js';

/** @param images uint8 [C, H, W] each */
export function memoryPixels(images: readonly Uint8Array[], [channels, height, width]: number[]): Pixels {
  return {
    ...{ count: images.length, channels, height, width },
    read: async (indices) => Uint8Array.from(Buffer.concat(indices.map((index) => images[index]))),
    close: async () => {},
  };
}

/** Smooth random images: a few waves with random phases. */
export function waves(count: number, seed: number, side = 32): Uint8Array[] {
  const random = new Mt19937(seed);
  return Array.from({ length: count }, () => {
    const terms = Array.from({ length: 4 }, () => [1, 2, 3].map(() => 6 * random.randomDouble()));
    return Uint8Array.from({ length: 3 * side * side }, (_, k) => {
      const [x, y] = [k % side, Math.floor(k / side) % side];
      const sum = terms.reduce((s, [a, b, phase]) => s + Math.sin((a * x + b * y) / side + phase), 0);
      return Math.round(128 + 25 * sum);
    });
  });
}
