/** Which span of averaging is best: networks with averages of several lengths, by their loss on held-out images. */
import * as torch from '@patch-diffusion/torch';
import { withMemoryGuard } from '../common/memory.js';
import type { EmaOptions } from '../config/ema-options.js';
import { resolveEvaluateOptions } from '../config/evaluate-options.js';
import { prepareDenoiser } from '../diffusion/device.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { writeSnapshot } from '../interchange/snapshot.js';
import { reconstruct } from '../interchange/stored-averages.js';
import { someOf } from './core-metrics.js';
import type { EvaluationContext } from './events.js';
import { type Figure, meanFigure } from './figure.js';
import { lossPerImage, measureLosses } from './held-out-loss.js';
import { openReals } from './reals.js';
import { disposeModel, openModel } from './subject.js';

/** A network of a sweep. */
export interface SweepRow {
  /** Relative length of its average; null for the run's own average. */
  readonly length: number | null;
  readonly loss: Figure;
  /** How far the combination of the stored averages is from the wanted one, relative; null for the run's own average. */
  readonly fitError: number | null;
  /** Of the system that gave the combination. */
  readonly condition: number | null;
}

export interface SweepResult {
  /** The run's own average, then from the shortest length to the longest. */
  readonly rows: readonly SweepRow[];
  readonly best: SweepRow;
  /** Whether the images were held out from training. */
  readonly isHeldOut: boolean;
}

/**
 * Measures averages of several lengths on the same noisy images, and writes the best one where `out` says so.
 * @throws UserError where the run has no averages or no images
 */
export function sweepEma(
  options: EmaOptions & { readonly sweep: readonly [number, number] },
  context: EvaluationContext = {},
): Promise<SweepResult> {
  return withMemoryGuard('lower --batch', () => sweep(options, context));
}

async function sweep(
  options: EmaOptions & { readonly sweep: readonly [number, number] },
  context: EvaluationContext,
): Promise<SweepResult> {
  const { run, points, lossImages, batch, out } = options;
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const nimg = options.kimg === null ? null : options.kimg * 1000;
  const warn = (message: string) => context.onEvent?.({ type: 'warning', message });
  const { data, trainData, device: deviceName, precision, autoencoder } = options;
  const evaluation = resolveEvaluateOptions({
    call: { run, data, trainData, lossImages, batch, device: deviceName, precision, autoencoder },
  });
  // Before anything is measured: are there averages?
  (await reconstruct(run, options.sweep[0], nimg)).denoiser.dispose();
  const model = await openModel({ name: run, kind: 'run', path: run }, evaluation, context);
  try {
    const reals = await openReals(model, evaluation, { ...context, warn });
    try {
      if (!reals.isHeldOut)
        warn(
          'the lengths are compared on training images, which says nothing about memorisation; train with --holdout',
        );
      const { judged, isHeldOut } = reals;
      const { device } = model;
      const count = Math.min(lossImages, judged.baseLength);
      const lengths = lengthsOf(options.sweep, points);
      const total = (lengths.length + 1) * count;
      let before = 0;
      const lossOf = async (denoiser: Denoiser): Promise<Figure> => {
        const table = await measureLosses(denoiser, someOf(judged, count), count, denoiser.imageExtent, {
          ...{ batch, device, signal: context.signal },
          onProgress: (done) =>
            context.onEvent?.({
              ...{ type: 'progress', subject: '', what: 'measuring the loss' },
              ...{ done: before + done, total },
            }),
        });
        before += count;
        return meanFigure(lossPerImage(table));
      };
      const own: SweepRow = {
        ...{ length: null, loss: await lossOf(model.denoiser), fitError: null, condition: null },
      };
      const rows = [own];
      for (const length of lengths) {
        const { denoiser, fitError, condition } = await reconstruct(run, length, nimg);
        try {
          const loss = await lossOf(prepareDenoiser(denoiser, device, precision));
          rows.push({ length, loss, fitError, condition });
        } finally {
          denoiser.dispose();
        }
      }
      const best = rows.slice(1).reduce((a, b) => (b.loss.value < a.loss.value ? b : a));
      if (out !== null) await writeAverage(run, best.length!, nimg, out);
      return { rows, best, isHeldOut };
    } finally {
      await reals.close();
    }
  } finally {
    disposeModel(model);
  }
}

/** Writes a snapshot with an average of one length. @returns how well it could be made */
export async function writeAverage(
  run: string,
  length: number,
  nimg: number | null,
  out: string,
): Promise<{ readonly fitError: number; readonly condition: number; readonly sources: number }> {
  const { denoiser, info, ...quality } = await reconstruct(run, length, nimg);
  try {
    await writeSnapshot(out, denoiser, info);
    return quality;
  } finally {
    denoiser.dispose();
  }
}

/** Lengths with equal ratios, rounded to three digits. */
function lengthsOf([from, to]: readonly [number, number], points: number): number[] {
  return Array.from({ length: points }, (_, k) =>
    Number((from * (to / from) ** (k / (points - 1))).toPrecision(3)),
  );
}
