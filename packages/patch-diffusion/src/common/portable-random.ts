/**
 * Random numbers that are the same in every JavaScript engine: Philox 4x32-10 (Salmon et al. 2011, "Parallel random
 * numbers: as easy as 1, 2, 3"), a counter-based generator. A seed and a counter give four words of 32 random bits,
 * without a state, so that any part of a stream can be had on its own. Without Node or native imports.
 *
 * A seed is the key: its low 32 bits and what is above them. The counter's words are (block, draw, 0, 0): draw 0 is the
 * noise that a sampling begins with, draw 1 its label, draw 2 + i the noise that solver step i adds. Blocks count on
 * within a draw. docs/formats.md says it for other programs.
 */

/** Where a sampling's random numbers come from: libtorch's generator, or {@link PortableRandom}. */
export const NOISE_SOURCES = ['torch', 'portable'] as const;

export type NoiseSource = (typeof NOISE_SOURCES)[number];

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const WEYL = [0x9e3779b9, 0xbb67ae85] as const;
const ROUNDS = 10;

const START = 0;
const LABEL = 1;
const FIRST_STEP = 2;

type Words = readonly [number, number, number, number];

/** Philox 4x32-10: four random words of 32 bits for a key and a counter. */
export function philox4x32(key: readonly [number, number], counter: Words): Words {
  let [k0, k1] = key;
  let [c0, c1, c2, c3] = counter;
  for (let round = 0; round < ROUNDS; round++) {
    const [high0, low0] = [highProduct(MULTIPLIERS[0], c0), Math.imul(MULTIPLIERS[0], c0)];
    const [high1, low1] = [highProduct(MULTIPLIERS[1], c2), Math.imul(MULTIPLIERS[1], c2)];
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The upper 32 bits of the product of two words. */
function highProduct(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  return (aHigh * bHigh + (middle >>> 16) + ((aLow * bHigh + (middle & 0xffff)) >>> 16)) >>> 0;
}

/**
 * All that is random in one sample, by its seed.
 * @example
 * ```ts
 * const random = new PortableRandom(17);
 * const noise = random.startNoise(3 * 32 * 32); // standard normal; the same in Node and in every browser
 * ```
 */
export class PortableRandom {
  readonly #key: readonly [number, number];

  /** @param seed integer in [0, 2⁵³). @throws RangeError for any other value */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new RangeError(`A seed must be an integer from 0 to 9007199254740991, not ${seed}`);
    this.#key = [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  }

  /** Standard normal noise that a sampling begins with, in the order of [C, H, W]. */
  startNoise(count: number): Float32Array {
    return this.#normal(START, count);
  }

  /** Standard normal noise for solver step `step`, counted from 0, in the order of [C, H, W]. */
  stepNoise(step: number, count: number): Float32Array {
    return this.#normal(FIRST_STEP + step, count);
  }

  /** Which of `count` labels the sample has: a uniform integer in [0, count). */
  label(count: number): number {
    const [word] = philox4x32(this.#key, [0, LABEL, 0, 0]);
    return Math.floor((word / 2 ** 32) * count);
  }

  /**
   * Box–Muller in float64, rounded to float32: words (a, b) give √(−2 ln u)·cos(2πv) and √(−2 ln u)·sin(2πv) with
   * u = (a + ½)/2³² and v = b/2³². A block gives four values.
   */
  #normal(draw: number, count: number): Float32Array {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i += 4) {
      const words = philox4x32(this.#key, [i / 4, draw, 0, 0]);
      for (const pair of [0, 2]) {
        const radius = Math.sqrt(-2 * Math.log((words[pair] + 0.5) / 2 ** 32));
        const angle = 2 * Math.PI * (words[pair + 1] / 2 ** 32);
        // Writes beyond the end of a typed array do nothing.
        out[i + pair] = radius * Math.cos(angle);
        out[i + pair + 1] = radius * Math.sin(angle);
      }
    }
    return out;
  }
}
