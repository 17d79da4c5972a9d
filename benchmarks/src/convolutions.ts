/**
 * The machine's convolution peak: the best rate, forward and backward, over the 3×3 convolutions that U-Nets are made
 * of. A step cannot beat it with this library; how near it comes tells what the rest of the step costs.
 */
import * as torch from '@patch-diffusion/torch';
import type { Denoiser } from 'patch-diffusion/method';
import type { BenchOptions } from './command-line.js';
import { now } from './timing.js';

export interface ConvolutionRate {
  readonly batch: number;
  readonly channels: number;
  readonly side: number;
  readonly dtype: Denoiser['computeDtype'];
  readonly format: 'contiguous' | 'channelsLast';
  /** Best of the repeats, forward and backward together. */
  readonly gflopPerSec: number;
}

const SHAPES = [
  { batch: 16, channels: 64, side: 64 },
  { batch: 16, channels: 128, side: 32 },
  { batch: 16, channels: 256, side: 32 },
  { batch: 32, channels: 128, side: 16 },
  { batch: 32, channels: 256, side: 16 },
] as const;

/** Measures all shapes in both memory orders; the highest rate is the peak of that precision. */
export function measureConvolutions(
  { device, repeats, quick }: Pick<BenchOptions, 'device' | 'repeats' | 'quick'>,
  dtype: ConvolutionRate['dtype'],
): ConvolutionRate[] {
  const shapes = quick ? SHAPES.slice(1, 2) : SHAPES;
  return shapes.flatMap((shape) =>
    (['contiguous', 'channelsLast'] as const).map((format) => ({
      ...shape,
      dtype,
      format,
      gflopPerSec: measure(shape, format),
    })),
  );

  function measure(
    { batch, channels, side }: (typeof SHAPES)[number],
    memoryFormat: ConvolutionRate['format'],
  ): number {
    return torch.scope(() => {
      const random = (shape: number[]): torch.Tensor =>
        torch.randn(shape, { device }).to({ dtype, memoryFormat }).detach().setRequiresGrad();
      const x = random([batch, channels, side, side]);
      const weight = random([channels, channels, 3, 3]);
      const gradient = torch.scope(() => torch.randn(x.shape, { device }).to({ dtype, memoryFormat }));
      const gflop = (3 * 2 * x.numel * channels * 9) / 1e9;
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i <= repeats; i++) {
        const start = now(device);
        torch.scope(() => torch.conv2d(x, weight, null, 1, 1).backward(gradient));
        const seconds = now(device) - start;
        if (i > 0) best = Math.min(best, seconds);
        x.grad = null;
        weight.grad = null;
      }
      return gflop / best;
    });
  }
}
