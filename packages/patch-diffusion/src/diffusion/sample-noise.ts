/** Where the random numbers of samples come from: libtorch's generators, or a stream that browsers have, too. */
import type { Device, DType, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type NoiseSource, PortableRandom } from '../common/portable-random.js';

/** All that is random in a batch of samples, in the order in which it is asked for. */
interface SampleNoise {
  /** Standard normal noise to begin with, float32 [N, ...shape]. */
  start(shape: readonly number[]): Tensor;
  /** One uniform integer below `count` per sample. */
  labels(count: number): number[];
  /** Standard normal noise for a solver step, [N, ...shape]. */
  step(index: number, shape: readonly number[], dtype: DType): Tensor;
}

export function drawNoise(source: NoiseSource, seeds: readonly number[], device: Device): SampleNoise {
  return source === 'portable' ? portableNoise(seeds, device) : torchNoise(seeds, device);
}

function torchNoise(seeds: readonly number[], device: Device): SampleNoise {
  const random = new PerSampleRandom(seeds, device);
  return {
    start: (shape) => random.randn(shape),
    labels: (count) => random.integers(count),
    step: (_, shape, dtype) => random.randn(shape, dtype),
  };
}

function portableNoise(seeds: readonly number[], device: Device): SampleNoise {
  const streams = seeds.map((seed) => new PortableRandom(seed));
  const stack = (shape: readonly number[], draw: (stream: PortableRandom, count: number) => Float32Array) => {
    const count = shape.reduce((product, side) => product * side, 1);
    const values = new Float32Array(streams.length * count);
    for (const [n, stream] of streams.entries()) values.set(draw(stream, count), n * count);
    return torch.tensor(values, { shape: [streams.length, ...shape], device });
  };
  return {
    start: (shape) => stack(shape, (stream, count) => stream.startNoise(count)),
    labels: (count) => streams.map((stream) => stream.label(count)),
    step: (index, shape, dtype) =>
      stack(shape, (stream, count) => stream.stepNoise(index, count)).to({ dtype }),
  };
}

/**
 * One random stream per sample, so that a seed gives the same picture in every batch. Draws are made on the CPU, so
 * that it is also the same on every device.
 */
export class PerSampleRandom {
  readonly #generators: torch.Generator[];

  /** @param seeds taken modulo 2³² */
  constructor(
    seeds: readonly number[],
    readonly device: Device = 'cpu',
  ) {
    this.#generators = seeds.map(
      (seed) => new torch.Generator('cpu', ((seed % 2 ** 32) + 2 ** 32) % 2 ** 32),
    );
  }

  /** Standard normal draws, [N, ...shape]. */
  randn(shape: readonly number[], dtype: DType = 'float32'): Tensor {
    return torch.scope(() =>
      torch
        .stack(this.#generators.map((generator) => torch.randn([...shape], { generator, dtype })))
        .to({ device: this.device }),
    );
  }

  /** One uniform integer below `high` per sample. */
  integers(high: number): number[] {
    return torch.scope(() =>
      this.#generators.map((generator) => torch.randint(0, high, [1], { generator }).item()),
    );
  }
}
