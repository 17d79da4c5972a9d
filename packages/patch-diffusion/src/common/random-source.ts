/**
 * Named random draws. Every tensor of random numbers that a training step needs is asked for by name, so that a
 * step can be recorded and replayed exactly (that is how the reference vectors are tested).
 */
import type { Device, Generator, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/**
 * A source of the random tensors of one step. Shapes are as each caller states; `batchDim` is the dimension that counts
 * the samples, 0 by default.
 */
export interface RandomSource {
  /** Uniform on [0, 1), float32. */
  rand(name: string, shape: readonly number[], batchDim?: number): Tensor;
  /** Standard normal, float32. */
  randn(name: string, shape: readonly number[], batchDim?: number): Tensor;
  /** Uniform integers in [low, high), int64. */
  randint(name: string, low: number, high: number, shape: readonly number[], batchDim?: number): Tensor;
}

/** Draws from a generator of libtorch; by default the device's own, whose state a checkpoint saves. */
export class TorchRandom implements RandomSource {
  readonly #options: { device: Device; generator?: Generator };

  constructor(device: Device = 'cpu', generator?: Generator) {
    this.#options = generator ? { device, generator } : { device };
  }

  rand(_name: string, shape: readonly number[]): Tensor {
    return torch.rand([...shape], this.#options);
  }

  randn(_name: string, shape: readonly number[]): Tensor {
    return torch.randn([...shape], this.#options);
  }

  randint(_name: string, low: number, high: number, shape: readonly number[]): Tensor {
    return torch.randint(low, high, [...shape], { dtype: 'int64', ...this.#options });
  }
}

/** Prefixes every name, for a part (such as the augmentation) that draws inside a larger step. */
export function withPrefix(source: RandomSource, prefix: string): RandomSource {
  return {
    rand: (name, shape, batchDim) => source.rand(prefix + name, shape, batchDim),
    randn: (name, shape, batchDim) => source.randn(prefix + name, shape, batchDim),
    randint: (name, low, high, shape, batchDim) => source.randint(prefix + name, low, high, shape, batchDim),
  };
}
