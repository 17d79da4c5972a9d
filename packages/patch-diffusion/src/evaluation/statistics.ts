/** `stats`: mean and covariance of the features of images, as a reference for the Fréchet distance. */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { withMemoryGuard } from '../common/memory.js';
import type { StatsOptions } from '../config/stats-options.js';
import { openImages } from '../data/open-images.js';
import { resolveDevice } from '../diffusion/device.js';
import { cacheFolder } from '../formats/hub/cache.js';
import { spread } from './bench.js';
import type { EvaluationContext } from './events.js';
import { accumulate } from './feature-distance.js';
import { openClassifier } from './features/classifier.js';
import type { Detector, FeatureRecord } from './features/detector.js';
import { FeatureSet } from './features/feature-set.js';
import { openInception } from './features/inception-detector.js';
import { all } from './features/parts.js';
import { dataPixels, openPixels, type Pixels } from './pixels.js';
import { writeReference } from './reference.js';
import { WorkFolder } from './work-folder.js';

export interface StatisticsReport {
  readonly out: string;
  /** Images that were used. */
  readonly count: number;
  readonly features: FeatureRecord;
}

/**
 * Writes the reference statistics of images to a file.
 * @throws UserError for what the user can fix; features that are done are kept for the same call
 */
export async function writeStatistics(
  options: StatsOptions,
  context: EvaluationContext = {},
): Promise<StatisticsReport> {
  const { out, force, threads } = options;
  if (threads !== null) torch.setNumThreads(threads);
  if (!force && (await stat(out).catch(() => null)) !== null)
    throw new UserError(
      'FILE_EXISTS',
      `${out} is already there; choose another --out, or replace it with --force`,
    );
  await guarded(`write ${out}`, async () => makeFolder(dirname(out)));
  return withMemoryGuard('lower --batch', () => measure(options, context));
}

async function measure(options: StatsOptions, context: EvaluationContext): Promise<StatisticsReport> {
  const { data, out, batch, count: most } = options;
  const { signal, onEvent } = context;
  const progress = (what: string, total: number) => (done: number) =>
    onEvent?.({ type: 'progress', subject: '', what, done, total });
  const cleanUp: (() => Promise<void> | void)[] = [];
  try {
    const { pixels, detector } = await openBoth(options, context, cleanUp);
    const { record } = detector;
    const chosen = spread(pixels, Math.min(pixels.count, most ?? pixels.count));
    if (chosen.count < 2)
      throw new UserError('TOO_FEW_IMAGES', `${data} has ${chosen.count} image; statistics need at least 2`);
    const { size, mtimeMs } = await stat(data);
    const { height, width } = chosen;
    const key = ['stats', record.sha256, resolve(data), size, mtimeMs, chosen.count, height, width];
    const work = await WorkFolder.open(join(cacheFolder(), 'evaluation'), key);
    let isComplete = false;
    cleanUp.push(() => work.close(isComplete));
    const features = await FeatureSet.of(chosen, detector, join(work.path, 'features.bin'), {
      ...{ batch, signal },
      onProgress: progress('features of images', chosen.count),
    });
    cleanUp.push(() => features.close());
    const sum = await accumulate(all(features), signal);
    cleanUp.push(() => sum.dispose());
    const statistics = sum.statistics();
    await writeReference(out, statistics, sum.count, record);
    statistics.mean.dispose();
    statistics.covariance.dispose();
    if (sum.count <= record.dim) {
      const message = `${sum.count} images for ${record.dim} features: the covariance is rank-deficient; take more than ${record.dim} images`;
      onEvent?.({ type: 'warning', message });
    }
    isComplete = true;
    return { out, count: sum.count, features: record };
  } finally {
    for (const close of cleanUp.reverse()) await close();
  }
}

/** The images, which a classifier needs with their labels, and the network for their features. */
async function openBoth(
  { data, resolution, features, inceptionWeights, device: name }: StatsOptions,
  { signal, onEvent }: EvaluationContext,
  cleanUp: (() => Promise<void> | void)[],
): Promise<{ pixels: Pixels; detector: Detector }> {
  const device = resolveDevice(name);
  const onProgress = (what: string, done: number, total: number) =>
    onEvent?.({ type: 'progress', subject: '', what, done, total });
  const warn = (message: string) => onEvent?.({ type: 'warning', message });
  const skipped = (files: readonly { file: string; reason: string }[]) => {
    if (files.length > 0)
      warn(`${data}: ${files.length} files are left out, such as ${files[0].file} (${files[0].reason})`);
  };
  const opened = <D extends Detector>(detector: D) => {
    cleanUp.push(() => detector.dispose());
    return detector;
  };
  const inception = async () =>
    opened(
      await openInception(inceptionWeights!, {
        device,
        ...(signal ? { signal } : {}),
        onProgress: (doneBytes, totalBytes) => onEvent?.({ type: 'fetch', doneBytes, totalBytes }),
        onNote: warn,
      }),
    );
  if (features === 'inception' && resolution === null) {
    const pixels = await openPixels(data, {
      ...{ maxImages: Number.POSITIVE_INFINITY, signal, onSkip: skipped },
      onProgress: (done, total) => onProgress('looking at images', done, total),
    });
    cleanUp.push(() => pixels.close());
    return { pixels, detector: await inception() };
  }
  const set = await openImages(data, {
    ...(resolution === null ? {} : { resolution }),
    ...(signal ? { signal } : {}),
    labels: features === 'classifier',
    onProgress: (done, total) => onProgress('reading images', done, total),
  });
  cleanUp.push(() => set.close());
  skipped(set.report.skipped);
  const pixels = dataPixels(set, null);
  if (features === 'inception') return { pixels, detector: await inception() };
  return { pixels, detector: opened(await openClassifier(set, pixels, { device, signal, onProgress })) };
}
