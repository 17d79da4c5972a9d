/**
 * Sampling with libtorch: per-sample random streams, the coordinate grid, the solver loop, and 8-bit output.
 * The solver's state is float64, as in the reference; the network runs in its own precision.
 */
import type { Device, DType, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { windowPositions } from '../patches/crops.js';
import { type Guidance, guidedDenoise } from './guidance.js';
import { type Label, labelRows } from './labels.js';
import type { Denoiser } from './preconditioning.js';
import { type ArrayMath, type Query, runStep, type SolverState } from './samplers/array-math.js';
import { planSampler, type SamplerOptions } from './samplers/index.js';

/** {@link ArrayMath} on tensors. */
export const tensorMath: ArrayMath<Tensor> = {
  combine(...terms) {
    const [[coefficient, first], ...rest] = terms;
    return rest.reduce(
      (sum, [c, x]) => sum.add(x, { alpha: c }),
      coefficient === 1 ? first : first.mul(coefficient),
    );
  },
};

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

export interface SampleOptions extends SamplerOptions {
  /** One seed per sample. */
  readonly seeds: readonly number[];
  /** Generated window in pixels of the training images' plane; by default the whole image. Outside is extrapolation. */
  readonly window?: { height: number; width: number; xStart?: number; yStart?: number };
  /** Class of all samples; by default, one of `labels` is drawn per seed. */
  readonly classIndex?: number | null;
  /** Class numbers, or label vectors, that are drawn from; all classes by default. */
  readonly labels?: readonly Label[] | null;
  /** Told which labels the samples have; not called for an unconditional network. */
  readonly onLabels?: (labels: readonly Label[]) => void;
  /** Classifier-free guidance or autoguidance; by default none. */
  readonly guidance?: Guidance | null;
  readonly device?: Device;
  /** Precision of the solver's state. Default float64; always float32 on `mps`, which has no float64. */
  readonly stateDtype?: 'float64' | 'float32';
  /** Called after each solver step. */
  readonly onStep?: (step: number, numSteps: number) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/**
 * Draws images from a denoiser, by default with the EDM sampler.
 * @returns float images, roughly in [−1, 1], [N, C, H, W]; the caller disposes them
 * @example
 * ```ts
 * const { denoiser } = await loadSnapshot(await newestSnapshot('runs/00000-photos') ?? '');
 * const images = await sampleImages(denoiser, { seeds: [0, 1, 2], numSteps: 4 }); // [3, 3, 16, 16]
 * images.dispose();
 * denoiser.dispose();
 * ```
 */
export async function sampleImages(denoiser: Denoiser, options: SampleOptions): Promise<Tensor> {
  const { seeds, device = 'cpu' } = options;
  const stateDtype = device === 'mps' ? 'float32' : (options.stateDtype ?? 'float64');
  const sampler = planSampler(options, denoiser);
  const numSteps = sampler.sigmas.length;
  const image = denoiser.imageExtent;
  const window = options.window ?? image;
  const random = new PerSampleRandom(seeds, device);
  const shape = [denoiser.dataChannels, window.height, window.width];

  const inputs = torch.noGrad(() => {
    const latents = random.randn(shape);
    const labels = denoiser.labelDim ? drawLabels(random, denoiser.labelDim, options) : null;
    if (labels) options.onLabels?.(labels);
    return {
      latents,
      positions: denoiser.hasPositions ? windowPositions(window, image, device) : null,
      classLabels: labels && labelTensor(labels, denoiser.labelDim, device),
    };
  });
  const denoise = ({ x, sigma }: Query<Tensor>) =>
    guidedDenoise(denoiser, x, sigma, inputs, options.guidance ?? null);

  let state: SolverState<Tensor> = {
    x: torch.noGrad(() =>
      torch.scope(() => inputs.latents.to({ dtype: stateDtype }).mul(sampler.initialScale)),
    ),
  };
  try {
    for (let i = 0; i < numSteps; i++) {
      options.signal?.throwIfAborted();
      const next = torch.noGrad(() =>
        torch.scope(() => {
          const noise = sampler.needsNoise ? random.randn(shape, stateDtype) : null;
          return runStep(sampler.step(tensorMath, i, state, noise), denoise);
        }),
      );
      disposeState(state);
      state = next;
      await options.onStep?.(i + 1, numSteps);
    }
    state.denoised?.dispose();
    return state.x;
  } catch (error) {
    disposeState(state);
    throw error;
  } finally {
    inputs.latents.dispose();
    inputs.positions?.dispose();
    inputs.classLabels?.dispose();
  }
}

function disposeState({ x, denoised }: SolverState<Tensor>): void {
  x.dispose();
  denoised?.dispose();
}

/** One label per sample. There is a draw also where there is no choice, so that all other draws stay the same. */
function drawLabels(
  random: PerSampleRandom,
  labelDim: number,
  { classIndex, labels: given }: SampleOptions,
): Label[] {
  const labels = typeof classIndex === 'number' ? [classIndex] : given;
  const drawn = random.integers(labels?.length ?? labelDim);
  return labels ? drawn.map((k) => labels[k]) : drawn;
}

/** float32 [N, labelDim] */
function labelTensor(labels: readonly Label[], labelDim: number, device: Device): Tensor {
  return torch.tensor(labelRows(labels, labelDim), { shape: [labels.length, labelDim], device });
}

/**
 * [−1, 1] floats [N, C, H, W] → 8 bits: x·127.5 + 128, clipped, truncated (which inverts x/127.5 − 1 exactly).
 * @example
 * ```ts
 * const images = torch.rand([2, 3, 16, 16]).mul(2).sub(1);
 * const bytes = toUint8(images); // 2 · 3 · 16 · 16 values, 0 … 255
 * ```
 */
export function toUint8(images: Tensor): Uint8Array {
  return torch.scope(() => {
    const scaled = images.mul(127.5).add(128).clamp(0, 255);
    return scaled.to({ dtype: 'uint8', device: 'cpu' }).toTypedArray() as Uint8Array;
  });
}
