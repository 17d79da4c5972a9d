/**
 * NumPy's legacy generator, `RandomState`: MT19937 (Matsumoto & Nishimura 1998) with NumPy's ways of drawing from it.
 *
 * The reference implementation draws its data order and its patch sizes from this generator, so the same seed gives
 * the same order here, bit for bit. Limits: integer seeds below 2³², ranges up to 2³², no normal deviates.
 */

const LENGTH = 624;
const SHIFT = 397;
const UPPER_BIT = 0x80000000;
const LOWER_BITS = 0x7fffffff;

/** What is needed to continue drawing exactly where a generator stopped. */
export interface Mt19937State {
  /** The 624 words of the generator. */
  readonly key: Uint32Array;
  /** Words of `key` that are used up, 0 … 624. */
  readonly position: number;
}

/** `numpy.random.RandomState(seed)`: the same draws in the same order. */
export class Mt19937 {
  readonly #key = new Uint32Array(LENGTH);
  #position = LENGTH;

  /** @param seed integer in [0, 2³²). @throws RangeError for any other value */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
      throw new RangeError(`A seed must be an integer from 0 to 4294967295, not ${seed}`);
    }
    this.#key[0] = seed;
    for (let i = 1; i < LENGTH; i++) {
      const previous = this.#key[i - 1];
      this.#key[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** A copy of the state; later draws do not change it. */
  get state(): Mt19937State {
    return { key: this.#key.slice(), position: this.#position };
  }

  set state(state: Mt19937State) {
    const { key, position } = state;
    if (key.length !== LENGTH || !Number.isInteger(position) || position < 0 || position > LENGTH) {
      throw new RangeError(`Not an MT19937 state: ${key.length} words, position ${position}`);
    }
    this.#key.set(key);
    this.#position = position;
  }

  /** The next 32 random bits, 0 … 2³² − 1. */
  nextUint32(): number {
    if (this.#position === LENGTH) this.#refill();
    let y = this.#key[this.#position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  /** `random_sample()`: a double in [0, 1) with 53 random bits. */
  randomDouble(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** `randint(low, high)`: an integer in [low, high). @throws RangeError when the range is empty or above 2³² */
  randint(low: number, high: number): number {
    if (!Number.isSafeInteger(low) || !Number.isSafeInteger(high) || high <= low || high - low > 2 ** 32) {
      throw new RangeError(`randint needs integers with low < high ≤ low + 2³², not (${low}, ${high})`);
    }
    return low + this.#interval(high - low - 1);
  }

  /** `choice(n, p=p)`: an index in [0, n) drawn with the probabilities `p` (default: all equal). */
  choice(n: number, p?: ArrayLike<number>): number {
    if (p === undefined) return this.randint(0, n);
    if (p.length !== n || n < 1) throw new RangeError(`choice got ${p.length} probabilities for ${n} values`);
    const cumulative = new Float64Array(n);
    let sum = 0;
    for (let i = 0; i < n; i++) {
      if (!(p[i] >= 0)) throw new RangeError(`Probability ${i} is ${p[i]}; it must not be negative`);
      sum += p[i];
      cumulative[i] = sum;
    }
    if (!(Math.abs(sum - 1) < 1e-6)) throw new RangeError(`Probabilities must sum to 1, not to ${sum}`);
    const sample = this.randomDouble();
    let index = 0;
    while (index < n - 1 && cumulative[index] / sum <= sample) index++;
    return index;
  }

  /** `shuffle(x)`: in place, from the end (Fisher–Yates). */
  shuffle<T extends { [index: number]: unknown; length: number }>(values: T): T {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.#interval(i);
      const swap = values[i];
      values[i] = values[j];
      values[j] = swap;
    }
    return values;
  }

  /** Integer in [0, max] by masked rejection: draw as many bits as `max` has until the value fits. */
  #interval(max: number): number {
    if (max === 0) return 0;
    const mask = 0xffffffff >>> Math.clz32(max);
    for (;;) {
      const value = (this.nextUint32() & mask) >>> 0;
      if (value <= max) return value;
    }
  }

  #refill(): void {
    const key = this.#key;
    for (let i = 0; i < LENGTH; i++) {
      const y = (key[i] & UPPER_BIT) | (key[(i + 1) % LENGTH] & LOWER_BITS);
      key[i] = key[(i + SHIFT) % LENGTH] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#position = 0;
  }
}
