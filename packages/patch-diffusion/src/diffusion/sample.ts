/**
 * Sampling with libtorch: the coordinate grid, the solver loop, and 8-bit output.
 * The solver's state is float64, as in the reference; the network runs in its own precision.
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { NoiseSource } from '../common/portable-random.js';
import type { Window } from '../patches/coordinate-grid.js';
import { windowPositions } from '../patches/crops.js';
import { type Guidance, guidedDenoise } from './guidance.js';
import { drawLabels, type Label, labelRows } from './labels.js';
import type { Denoiser } from './preconditioning.js';
import { drawNoise } from './sample-noise.js';
import { type Query, runStep, type SolverState } from './samplers/array-math.js';
import { planSampler, type SamplerOptions } from './samplers/index.js';
import { tensorMath } from './tensor-math.js';

export interface SampleOptions extends SamplerOptions {
  /** One seed per sample. */
  readonly seeds: readonly number[];
  /** Generated window in pixels of the training images' plane; by default the whole image. Outside is extrapolation. */
  readonly window?: Window;
  /**
   * Where random numbers come from: libtorch's generator, or `portable`: the same in browsers (see
   * {@link PortableRandom}). Default `torch`.
   */
  readonly noise?: NoiseSource;
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
  const random = drawNoise(options.noise ?? 'torch', seeds, device);
  const shape = [denoiser.dataChannels, window.height, window.width];

  const draw = (labelDim: number) => {
    const labels = typeof options.classIndex === 'number' ? [options.classIndex] : options.labels;
    return drawLabels((count) => random.labels(count), labelDim, labels ?? null);
  };
  const inputs = torch.noGrad(() => {
    const latents = random.start(shape);
    const labels = denoiser.labelDim ? draw(denoiser.labelDim) : null;
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
          const noise = sampler.needsNoise ? random.step(i, shape, stateDtype) : null;
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
