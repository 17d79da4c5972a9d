/** Frequency embedding of the coordinate channels, for networks that see positions as waves instead of x and y. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/**
 * Replaces coordinates by their sines and cosines at frequencies f = 1 … 2^(F − 1); for each f in turn
 * sin(f·x), sin(f·y), cos(f·x), cos(f·y).
 * @param positions coordinate channels, [N, 2, H, W]
 * @param numFrequencies F, at least 1
 * @param spacing of the frequencies: `octaves` doubles them, `linear` spaces them evenly over the same range
 * @returns float32 [N, 4·F, H, W]
 * @example
 * ```ts
 * const image = { height: 64, width: 64 };
 * const waves = embedPositions(windowPositions(image, image), 4); // [1, 16, 64, 64]
 * ```
 */
export function embedPositions(
  positions: Tensor,
  numFrequencies: number,
  spacing: 'octaves' | 'linear' = 'octaves',
): Tensor {
  const highest = 2 ** (numFrequencies - 1);
  const evenly = (k: number) => (numFrequencies > 1 ? 1 + ((highest - 1) * k) / (numFrequencies - 1) : 1);
  const frequencies = Array.from({ length: numFrequencies }, (_, k) =>
    spacing === 'linear' ? evenly(k) : 2 ** k,
  );
  return torch.scope(() => {
    const waves = frequencies.flatMap((f) => {
      const phase = positions.mul(f);
      return [phase.sin(), phase.cos()];
    });
    return torch.cat(waves, 1);
  });
}
