/** The samples of a network, drawn once into a file that every metric reads, and that an interrupted evaluation continues. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { EvaluateOptions } from '../config/evaluate-options.js';
import { resolveGenerateOptions } from '../config/generate-options.js';
import { ranksDiffer } from '../config/same-options.js';
import { sampleImages } from '../diffusion/sample.js';
import { blockFor, computeTogether, help } from '../distributed/crew.js';
import type { Ranks } from '../distributed/ranks.js';
import { toPixels } from '../latents/latents.js';
import { samplerSettings } from '../sampling/settings.js';
import type { EvaluationContext } from './events.js';
import type { Pixels } from './pixels.js';
import { RowFile } from './row-file.js';
import { disposeModel, type Model, openModel, subjectsOf } from './subject.js';

/** Seeds of the samples. */
export function seedsOf({ seeds, count }: Pick<EvaluateOptions, 'seeds' | 'count'>): number[] {
  return seeds ?? Array.from({ length: count }, (_, seed) => seed);
}

/** The sampler of an evaluation: that of `generate` for this network. */
export function samplerOf({ info, file }: Pick<Model, 'info' | 'file'>, steps: number | null) {
  return samplerSettings(resolveGenerateOptions({ call: { network: file, steps } }), info);
}

/** What is drawn, and how. */
interface SampleOptions {
  readonly seeds: readonly number[];
  readonly batch: number;
  readonly steps: number | null;
}

/** Samples that rank 0 asks for. */
interface SampleTask {
  /** Of the subject. */
  readonly path: string;
  /** Images that its network was trained on: another number is another snapshot. */
  readonly nimg: number | null;
  readonly seeds: readonly number[];
}

/**
 * Draws what is missing of the samples, together with other ranks where there are some.
 * @param path that of the subject
 * @param folder where they are kept; one file for one network, sampler and list of seeds
 * @throws UserError when the network draws NaN or infinite values
 */
export async function drawSamples(
  model: Model,
  { path, seeds, batch, steps }: SampleOptions & { readonly path: string },
  folder: string,
  context: {
    signal?: AbortSignal | undefined;
    ranks?: Ranks | null;
    onProgress?: (done: number, total: number) => void;
  },
): Promise<Pixels> {
  const { denoiser, decoder, info } = model;
  const factor = decoder?.downFactor ?? 1;
  const channels = decoder ? 3 : denoiser.dataChannels;
  const [height, width] = [denoiser.imageExtent.height * factor, denoiser.imageExtent.width * factor];
  const rows = await RowFile.open(join(folder, 'samples.bin'), channels * height * width);
  const { signal, onProgress, ranks = null } = context;
  const { block, round } = blockFor(ranks, seeds.length - rows.count, batch);
  try {
    while (rows.count < seeds.length) {
      const done = rows.count;
      onProgress?.(done, seeds.length);
      const what: SampleTask = { path, nimg: info.nimg, seeds: seeds.slice(done, done + round) };
      const task = { what, count: what.seeds.length, block };
      const parts = await computeTogether(ranks, signal, task, (_, [begin, end], { stop }) =>
        pixelsOf(model, what.seeds.slice(begin, end), steps, stop),
      );
      for (const pixels of parts) await rows.append(pixels);
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

/** For ranks beside the first: draws samples of whatever network it evaluates. */
export async function helpDrawing(options: EvaluateOptions, context: EvaluationContext): Promise<void> {
  const ranks = context.ranks!;
  const subjects = await subjectsOf(options);
  let open: { readonly path: string; readonly model: Model } | null = null;
  try {
    await help<SampleTask>(ranks, context.signal, async ({ path, nimg, seeds }, [begin, end], { stop }) => {
      if (open?.path !== path) {
        if (open) disposeModel(open.model);
        open = null;
        const subject = subjects.find((one) => one.path === path)!;
        open = { path, model: await openModel(subject, options, context) };
      }
      const own = open.model.info.nimg;
      if (own !== nimg) throw ranksDiffer(ranks, 'a snapshot after images:', own, nimg);
      return pixelsOf(open.model, seeds.slice(begin, end), options.steps, stop);
    });
  } finally {
    const last = open as { readonly model: Model } | null;
    if (last) disposeModel(last.model);
  }
}

/** Pixels of some seeds, uint8 [N, C, H, W]. */
async function pixelsOf(
  { denoiser, info, decoder, device, file }: Model,
  seeds: readonly number[],
  steps: number | null,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (seeds.length === 0) return new Uint8Array(0);
  const samples = await sampleImages(denoiser, {
    ...samplerOf({ info, file }, steps),
    ...{ seeds, labels: info.dataset.labels ?? null, device, signal },
    onStep: async () => {
      await setImmediate();
    },
  });
  const isGood = torch.scope(() => torch.isfinite(samples).all().item());
  if (!isGood) {
    samples.dispose();
    throw new UserError(
      'NAN_SAMPLES',
      `the network draws NaN or infinite values (seeds ${seeds[0]} to ${seeds[seeds.length - 1]}); it has diverged: use an earlier snapshot`,
    );
  }
  return (await toPixels(samples, decoder, signal)).pixels;
}
