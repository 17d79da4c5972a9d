/**
 * Draws that are spread evenly over a batch, so that the gradient of an update varies less. Each draw for itself is
 * distributed as before; only their sum is steadier. Noise levels, rows and columns: one in each of N equally likely
 * ranges, on a lattice with random shifts, so that levels and positions are also spread jointly.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';

/** Fractions whose multiples modulo 1 fill the square evenly, of the generalised golden ratio (Roberts 2018). */
const LATTICE = { i: 0.7548776662466927, j: 0.5698402909980532 } as const;
const GOLDEN = 0.6180339887498949;
/** Keeps Φ⁻¹ finite. */
const EDGE = 1e-6;

/** Spreads noise levels and positions of patches over the batch; all else is the source's. */
export function stratified(source: RandomSource): RandomSource {
  /** One in each of `count` ranges, [0, 1). */
  const inRanges = (name: string, shape: readonly number[]): Tensor => {
    const [count] = shape;
    const jitter = source.rand(name, shape);
    const range = torch.arange(count, { dtype: 'float32', device: jitter.device }).reshape(shape);
    return range.add(jitter).div(count);
  };
  return {
    rand: (name, shape) => (name === 'rnd_uniform' ? inRanges(name, shape) : source.rand(name, shape)),
    randn: (name, shape) => {
      if (name !== 'rnd_normal') return source.randn(name, shape);
      const u = inRanges(name, shape).clamp(EDGE, 1 - EDGE);
      return u.mul(2).sub(1).erfinv().mul(Math.SQRT2);
    },
    randint: (name, low, high, shape) => {
      if (name !== 'i' && name !== 'j') return source.randint(name, low, high, shape);
      const [count] = shape;
      const shift = Math.floor(count * source.rand(name, [1]).item());
      const jitter = source.rand(name, [count]).toTypedArray() as Float32Array;
      const by = coprime(count, LATTICE[name]);
      const values = Array.from(jitter, (rest, k) => {
        const u = (((k * by + shift) % count) + rest) / count;
        return low + Math.min(Math.floor((high - low) * u), high - low - 1);
      });
      return torch.tensor(values, { dtype: 'int64' });
    },
  };
}

/**
 * Numbers on [0, 1) for the patch sizes of micro-batches, of which every stretch of a run is spread evenly, so that
 * sizes occur as often as their probabilities say.
 * @param shift of the run, 0 … 1
 * @param index of the micro-batch in the run
 */
export function evenUniform(shift: number, index: number): number {
  return fraction(shift + index * GOLDEN);
}

/** The whole number near `share` of `count` whose multiples modulo `count` reach every number. */
function coprime(count: number, share: number): number {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));
  let by = Math.max(1, Math.round(count * share));
  while (divisor(by, count) > 1) by++;
  return by;
}

const fraction = (x: number) => x - Math.floor(x);
