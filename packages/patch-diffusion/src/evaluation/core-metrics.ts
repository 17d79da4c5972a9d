/** The metrics that need no network for features: held-out loss, sliced Wasserstein distance, memorisation. */
import { UserError } from '../common/errors.js';
import { chooseSubset } from '../data/subset.js';
import type { DataSet } from '../data/types.js';
import { Subset } from '../data/views.js';
import { type Extent, extentName } from '../patches/extent.js';
import { patchSizes } from '../training/model.js';
import { type Bench, MANY, progressOf, realPair, realPixels, spread, trainingPixels } from './bench.js';
import { meanFigure } from './figure.js';
import { GAP_LEVEL, lossGap, lossPerImage, lossPerLevel, measureLosses, SIGMAS } from './held-out-loss.js';
import { memorised, nearestTraining } from './memorisation.js';
import { dataPixels } from './pixels.js';
import type { Measured } from './report.js';
import { Descriptors, slicedDistance, slicedWasserstein } from './sliced-wasserstein.js';

/** Samples that are shown with their nearest training images. */
const SHOWN = 16;
/** A larger gap between held-out and training loss is said. */
const GAP_WARNING = 0.03;

/** Held-out loss, its curves, and the gap to the loss on training images. */
export async function lossMetric(bench: Bench): Promise<Measured> {
  const { model, reals, options, context } = bench;
  if (model === null || reals === null)
    throw new UserError('NO_MODEL', '--metrics loss needs a network, not images; leave it out', {
      exitCode: 2,
    });
  const { denoiser, device } = model;
  const image = denoiser.imageExtent;
  const { judged, isHeldOut, training } = reals;
  const count = Math.min(options.lossImages, judged.baseLength);
  const other = isHeldOut && training ? training : null;
  // The gap compares equally many images.
  const otherCount = other ? Math.min(count, other.baseLength) : 0;
  const smaller = model.info.train ? smallerPatches(bench, image) : [];
  const total = count + otherCount + smaller.length * count;
  let before = 0;
  const measure = async (set: DataSet, images: number, patch: Extent) => {
    const table = await measureLosses(denoiser, someOf(set, images), images, patch, {
      ...{ batch: options.batch, device, signal: context.signal },
      onProgress: (done) => progressOf(bench, 'measuring the loss', total)(before + done),
    });
    before += images;
    return table;
  };
  const table = await measure(judged, count, image);
  const trainTable = other && (await measure(other, otherCount, image));
  const patches: Record<string, number[]> = {};
  for (const patch of smaller) patches[extentName(patch)] = lossPerLevel(await measure(judged, count, patch));
  const figure = meanFigure(lossPerImage(table));
  if (!Number.isFinite(figure.value))
    throw new UserError(
      'NAN_LOSS',
      'the loss is not finite: the network has diverged; use an earlier snapshot',
    );
  const gap =
    trainTable &&
    lossGap(
      table.map((row) => row.subarray(0, otherCount)),
      trainTable,
    );
  if (gap && gap.value > GAP_WARNING && gap.low > 0) {
    bench.warn(
      `the loss on held-out images is ${percent(gap.value)} higher than on training images at σ = ${SIGMAS[GAP_LEVEL]}: the network begins to memorise; stop earlier, or train on more images`,
    );
  }
  return {
    metrics: {
      [isHeldOut ? 'heldOutLoss' : 'trainingLoss']: figure,
      ...(gap ? { lossGap: gap } : {}),
    },
    curves: {
      sigmas: SIGMAS,
      judged: lossPerLevel(table),
      training: trainTable && lossPerLevel(trainTable),
      patches,
    },
  };
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** Images spread over the set, in a fixed order. */
/** As many images, spread over the whole set. */
export function someOf(set: DataSet, count: number): DataSet {
  return new Subset(set, chooseSubset(set.baseLength, count, 0), false);
}

/** The patch sizes of the run but the whole image. */
function smallerPatches({ model }: Bench, image: Extent): Extent[] {
  const { train, latents } = model!.info;
  if (train === null || !model!.denoiser.hasPositions) return [];
  return patchSizes(train, { ...image, latents: latents ?? null }).filter(
    ({ height, width }) => height < image.height || width < image.width,
  );
}

/** Distance of samples and real images by what they look like in the small. */
export async function swdMetric(bench: Bench): Promise<Measured> {
  const real = realPixels(bench);
  if (real === null) throw noReals('swd');
  const samples = await bench.samples();
  const count = Math.min(samples.count, real.count, MANY);
  if (count < 2) throw tooFew('swd', 2);
  const { signal } = bench.context;
  const take = (pixels: typeof real, n: number) =>
    Descriptors.of(pixels, n, { signal, onProgress: progressOf(bench, 'comparing details', n) });
  const open: Descriptors[] = [];
  try {
    const pair = realPair(bench, count);
    let floor: { value: number; n: number } | null = null;
    if (pair) {
      for (const pixels of pair) open.push(await take(pixels, pair[0].count));
      floor = { value: slicedDistance(open[0], open[1]), n: pair[0].count };
      while (open.length) open.pop()?.dispose();
    }
    open.push(await take(samples, count), await take(spread(real, count), count));
    return { metrics: { slicedWasserstein: await slicedWasserstein(open[0], open[1], floor) } };
  } finally {
    for (const descriptors of open) descriptors.dispose();
  }
}

/** How many samples are copies of training images. */
export async function memorisationMetric(bench: Bench): Promise<Measured> {
  const training = trainingPixels(bench);
  if (training === null) {
    throw new UserError(
      'NO_DATA',
      '--metrics memorisation needs the training images; name them with --train-data, or leave it out',
    );
  }
  if (training.count < 2) throw tooFew('memorisation', 2);
  const { signal } = bench.context;
  const { reals, model } = bench;
  const samples = await bench.samples();
  const count = Math.min(samples.count, MANY);
  const nearest = await nearestTraining(samples, count, training, {
    signal,
    onProgress: progressOf(bench, 'looking for copies', count),
  });
  let floor: number | null = null;
  if (reals?.isHeldOut) {
    const others = dataPixels(reals.judged, model?.decoder ?? null);
    const n = Math.min(count, others.count);
    const found = await nearestTraining(spread(others, n), n, training, {
      signal,
      onProgress: progressOf(bench, 'looking for copies among held-out images', n),
    });
    floor = memorised(found).value;
  }
  const figure = memorised(nearest, floor);
  if (figure.low > (floor ?? 0)) {
    const copies = nearest.filter(({ distance }) => distance === 0).length;
    bench.warn(
      `${percent(figure.value)} of the samples are near copies of training images (${copies} exact); see the picture of the nearest ones`,
    );
  }
  const shown = [...nearest].sort((a, b) => a.ratio - b.ratio).slice(0, SHOWN);
  return { metrics: { memorised: figure }, nearest: shown };
}

/** A metric that compares with real images has none. */
export function noReals(metric: string): UserError {
  return new UserError('NO_DATA', `--metrics ${metric} needs real images; add --data, or leave it out`);
}

/** Too few images for a metric. */
export function tooFew(metric: string, least: number): UserError {
  return new UserError(
    'TOO_FEW_IMAGES',
    `--metrics ${metric} needs at least ${least} images on either side; give more, or leave it out`,
  );
}
