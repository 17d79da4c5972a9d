/**
 * The order in which training sees the images.
 *
 * `window` (default) is the reference's infinite sampler: one shuffle, then an endless walk over the order in which
 * each visited item is swapped with one of the last half of the set, so the order never repeats and no epoch has an
 * edge; an item can come back quickly. `epochs` visits every item once, reshuffles and starts over. Both draw from
 * NumPy's generator, so an order can be compared with the reference bit for bit, and both can be stopped and resumed.
 */
import { Mt19937, type Mt19937State } from '../common/mt19937.js';

export type SamplerMode = 'window' | 'epochs';

export interface InfiniteSamplerOptions {
  /** Number of items, at least 1. */
  length: number;
  /** Integer in [0, 2³²), the same on all ranks. Default 0. */
  seed?: number;
  /** This process among `worldSize`; it gets every `worldSize`-th position. Default 0 of 1. */
  rank?: number;
  worldSize?: number;
  /** Default `window`. */
  mode?: SamplerMode;
  /** Share of the set that the sliding window spans, 0 … 1. Default 0.5. */
  windowFraction?: number;
}

/** Everything that decides the items still to come, in typed arrays. */
export interface SamplerState {
  readonly mode: SamplerMode;
  readonly order: Int32Array;
  /** Positions walked so far, over all ranks. */
  readonly position: number;
  readonly rng: Mt19937State;
}

/** Endless stream of item indices in [0, length). */
export class InfiniteSampler {
  readonly length: number;
  readonly mode: SamplerMode;
  readonly #rng: Mt19937;
  readonly #order: Int32Array;
  readonly #window: number;
  readonly #rank: number;
  readonly #worldSize: number;
  #position = 0;

  /** @throws RangeError for an empty set or a rank outside the world */
  constructor(options: InfiniteSamplerOptions) {
    const { length, seed = 0, rank = 0, worldSize = 1, mode = 'window', windowFraction = 0.5 } = options;
    if (!Number.isInteger(length) || length < 1)
      throw new RangeError(`A sampler needs at least 1 item, not ${length}`);
    if (!Number.isInteger(worldSize) || !Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
      throw new RangeError(`Rank ${rank} is not in a world of ${worldSize}`);
    }
    if (!(windowFraction >= 0 && windowFraction <= 1)) {
      throw new RangeError(`windowFraction must be from 0 to 1, not ${windowFraction}`);
    }
    this.length = length;
    this.mode = mode;
    this.#rank = rank;
    this.#worldSize = worldSize;
    this.#window = roundHalfEven(windowFraction * length);
    this.#rng = new Mt19937(seed);
    this.#order = this.#rng.shuffle(Int32Array.from({ length }, (_, i) => i));
  }

  /** The next `count` items of this rank. */
  next(count: number): Int32Array {
    const items = new Int32Array(count);
    for (let filled = 0; filled < count; ) {
      if (this.#position % this.#worldSize === this.#rank)
        items[filled++] = this.#order[this.#position % this.length];
      this.#advance();
    }
    return items;
  }

  #advance(): void {
    const [order, rng, window] = [this.#order, this.#rng, this.#window];
    const i = this.#position % this.length;
    this.#position++;
    if (this.mode === 'epochs') {
      if (i === this.length - 1) rng.shuffle(order);
    } else if (window >= 2) {
      const j = (i - rng.randint(0, window) + this.length) % this.length;
      const item = order[i];
      order[i] = order[j];
      order[j] = item;
    }
  }

  /** A copy of the state; set it on a sampler of the same length to continue exactly. */
  get state(): SamplerState {
    return { mode: this.mode, order: this.#order.slice(), position: this.#position, rng: this.#rng.state };
  }

  set state(state: SamplerState) {
    const { order, position, mode } = state;
    if (
      order.length !== this.length ||
      mode !== this.mode ||
      !Number.isSafeInteger(position) ||
      position < 0
    ) {
      throw new RangeError(
        `The saved data order (${mode}, ${order.length} items) does not fit this one (${this.mode}, ${this.length} items)`,
      );
    }
    const seen = new Uint8Array(this.length);
    for (const item of order) {
      if (!(item >= 0 && item < this.length) || seen[item])
        throw new RangeError('The saved data order is damaged');
      seen[item] = 1;
    }
    this.#order.set(order);
    this.#position = position;
    this.#rng.state = state.rng;
  }
}

/** Python's and NumPy's rounding: halves go to the even neighbour. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
