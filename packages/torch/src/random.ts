/**
 * Seeds and random generators. All of libtorch's random operators take a `Generator`; without one they draw
 * from their device's default generator.
 */
import type { Device } from './dtype.js';
import { type NativeGenerator, native } from './native.js';

/** Seeds the default generators of all devices. */
export function manualSeed(seed: number | bigint): void {
  native().manualSeed(seed);
}

/** A stream of random numbers on one device (libtorch's own: Mersenne Twister on CPUs, Philox on GPUs). */
export class Generator {
  /** @internal */
  readonly _g: NativeGenerator;

  /**
   * An independent generator.
   *
   * @param seed - Non-negative integer below 2^64; default 0, so that runs are reproducible unless told otherwise.
   */
  constructor(device: Device = 'cpu', seed: number | bigint = 0) {
    this._g = native().createGenerator(device);
    native().seedGenerator(this._g, seed);
  }

  /** The generator that operators on this device use when they are given none. */
  static default(device: Device = 'cpu'): Generator {
    const generator = Object.create(Generator.prototype) as { _g: NativeGenerator };
    generator._g = native().defaultGenerator(device);
    return generator as Generator;
  }

  get device(): Device {
    return native().generatorDevice(this._g);
  }

  /** The seed that was set last. */
  get seed(): bigint {
    return native().generatorSeed(this._g);
  }

  /** Restarts the stream from this seed. */
  manualSeed(seed: number | bigint): this {
    native().seedGenerator(this._g, seed);
    return this;
  }

  /** The whole state: a generator given it continues with exactly the same numbers. */
  getState(): Uint8Array {
    return native().getGeneratorState(this._g);
  }

  /** Restores what {@link getState} returned, on a generator of the same kind of device. */
  setState(state: Uint8Array): this {
    native().setGeneratorState(this._g, state);
    return this;
  }
}
