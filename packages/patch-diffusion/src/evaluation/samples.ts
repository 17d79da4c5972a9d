/** The samples of a network, drawn once into a file that every metric reads, and that an interrupted evaluation continues. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { EvaluateOptions } from '../config/evaluate-options.js';
import { resolveGenerateOptions } from '../config/generate-options.js';
import { sampleImages } from '../diffusion/sample.js';
import { toPixels } from '../latents/latents.js';
import { samplerSettings } from '../sampling/settings.js';
import type { Pixels } from './pixels.js';
import { RowFile } from './row-file.js';
import type { Model } from './subject.js';

/** Seeds of the samples. */
export function seedsOf({ seeds, count }: Pick<EvaluateOptions, 'seeds' | 'count'>): number[] {
  return seeds ?? Array.from({ length: count }, (_, seed) => seed);
}

/** The sampler of an evaluation: that of `generate` for this network. */
export function samplerOf({ info, file }: Pick<Model, 'info' | 'file'>, steps: number | null) {
  return samplerSettings(resolveGenerateOptions({ call: { network: file, steps } }), info);
}

/**
 * Draws what is missing of the samples.
 * @param folder where they are kept; one file for one network, sampler and list of seeds
 * @throws UserError when the network draws NaN or infinite values
 */
export async function drawSamples(
  { denoiser, info, decoder, device, file }: Model,
  {
    seeds,
    batch,
    steps,
  }: { readonly seeds: readonly number[]; readonly batch: number; readonly steps: number | null },
  folder: string,
  context: { signal?: AbortSignal | undefined; onProgress?: (done: number, total: number) => void },
): Promise<Pixels> {
  const factor = decoder?.downFactor ?? 1;
  const channels = decoder ? 3 : denoiser.dataChannels;
  const [height, width] = [denoiser.imageExtent.height * factor, denoiser.imageExtent.width * factor];
  const rows = await RowFile.open(join(folder, 'samples.bin'), channels * height * width);
  const { signal, onProgress } = context;
  try {
    while (rows.count < seeds.length) {
      const done = rows.count;
      onProgress?.(done, seeds.length);
      const samples = await sampleImages(denoiser, {
        ...samplerOf({ info, file }, steps),
        seeds: seeds.slice(done, done + batch),
        labels: info.dataset.labels ?? null,
        ...{ device, signal },
        onStep: async () => {
          await setImmediate();
        },
      });
      const isGood = torch.scope(() => torch.isfinite(samples).all().item());
      if (!isGood) {
        samples.dispose();
        throw new UserError(
          'NAN_SAMPLES',
          `the network draws NaN or infinite values (seeds ${seeds[done]} to ${seeds[Math.min(done + batch, seeds.length) - 1]}); it has diverged: use an earlier snapshot`,
        );
      }
      await rows.append((await toPixels(samples, decoder, signal)).pixels);
    }
  } catch (error) {
    await rows.close();
    throw error;
  }
  onProgress?.(seeds.length, seeds.length);
  return {
    ...{ count: seeds.length, channels, height, width },
    read: (indices) => rows.read(indices),
    close: () => rows.close(),
  };
}
