/** Sampling on the device: float32 against the CPU, and the other precisions against float32. */
import * as torch from '@patch-diffusion/torch';
import type { TrainOptions } from 'patch-diffusion';
import { sampleImages } from 'patch-diffusion/method';
import { makeSamplingDenoiser } from '../../sample.js';
import { type StageContext, sizesFor } from './context.js';

const SEEDS = [1, 2, 3, 4];
const STEPS = 8;

/** Largest difference of images, relative to their size (L2): roundings of eight steps. */
const TOLERANCE = { fp32: 1e-3, tf32: 2e-2, bf16: 5e-2, fp16: 5e-2 } as const;

export async function generation({ device, emit }: StageContext): Promise<void> {
  const { preset } = sizesFor(device);
  const weights = makeSamplingDenoiser(preset, 'cpu', 'fp32').stateDict();
  const draw = async (on: string, precision: TrainOptions['precision']): Promise<torch.Tensor> => {
    const denoiser = makeSamplingDenoiser(preset, on, precision);
    denoiser.loadStateDict(weights); // random numbers differ between devices
    const options = { seeds: SEEDS, device: on, sampler: 'dpmpp-2m', numSteps: STEPS } as const;
    const images = await sampleImages(denoiser, options);
    denoiser.dispose();
    return images.to({ device: 'cpu', dtype: 'float64' });
  };
  const onCpu = await draw('cpu', 'fp32');
  const float32 = await draw(device, 'fp32');
  compare('fp32', float32, onCpu, 'the CPU');
  for (const precision of ['tf32', 'bf16', 'fp16'] as const) {
    if (precision === 'fp16' && device === 'cpu')
      emit({ name: 'images in fp16', status: 'skipped', detail: 'float16 is for GPUs' });
    else compare(precision, await draw(device, precision), float32, 'float32');
  }

  function compare(
    precision: keyof typeof TOLERANCE,
    found: torch.Tensor,
    expected: torch.Tensor,
    of: string,
  ): void {
    const difference = torch.scope(() => found.sub(expected).norm().item() / expected.norm().item());
    const tolerance = TOLERANCE[precision];
    emit({
      name: `images in ${precision}, against ${of}`,
      status: difference < tolerance ? 'ok' : 'failed',
      detail: `they differ by ${difference.toExponential(1)} (at most ${tolerance})`,
      figures: { difference },
    });
  }
}
