/** The part of an image that a patch leaves out, as one number: its sum of squares, in values as the network sees them. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { PatchSource } from './patch-source.js';

/** Sums of squares of whole images, which do not change while a source is open. */
const known = new WeakMap<PatchSource, Map<number, number>>();

/**
 * Sum of squares of each image outside of its patch.
 * @param patches [N, C, P, P]
 * @param whole the images, [N, C, H, W], or where they come from
 * @returns [N]
 */
export function energyOutside(
  patches: Tensor,
  whole: Tensor | { readonly source: PatchSource; readonly indices: ArrayLike<number> },
): Tensor {
  const sumOfSquares = (t: Tensor) => t.square().sum([1, 2, 3]);
  return torch.scope(() => {
    const total =
      'source' in whole
        ? torch.tensor(storedEnergies(whole.source, whole.indices), { device: patches.device })
        : sumOfSquares(whole);
    return total.sub(sumOfSquares(patches)).clampMin(0);
  });
}

/** Sum of squares of each image in [−1, 1] or, for latents, which are drawn anew each time, its expected value. */
function storedEnergies(source: PatchSource, indices: ArrayLike<number>): Float32Array {
  const energies = known.get(source) ?? new Map<number, number>();
  known.set(source, energies);
  return Float32Array.from(indices, (index) => {
    const energy = energies.get(index) ?? energyOf(source, index);
    energies.set(index, energy);
    return energy;
  });
}

function energyOf(source: PatchSource, index: number): number {
  const values = source.gather([index], { size: source, rows: [0], cols: [0] });
  let sum = 0;
  if (values instanceof Uint8Array) {
    for (const value of values) sum += (value / 127.5 - 1) ** 2;
    return sum;
  }
  const { scale, shift } = source.latents!;
  const half = values.length / 2;
  for (let k = 0; k < half; k++) sum += (values[k] - shift) ** 2 + values[half + k] ** 2;
  return sum * scale ** 2;
}
