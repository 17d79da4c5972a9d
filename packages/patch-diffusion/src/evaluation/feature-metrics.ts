/** The metrics that compare features: Fréchet and kernel distance, precision and recall, likelihood divergence. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { shuffled } from '../data/subset.js';
import { type Bench, MANY, progressOf } from './bench.js';
import { noReals, tooFew } from './core-metrics.js';
import { featureDistance, featureDistanceFigure } from './feature-distance.js';
import type { FeatureSet, Features } from './features/feature-set.js';
import { all, floorPair, type Part, some, withTensors } from './features/parts.js';
import { type Figure, meanFigure } from './figure.js';
import { kernelDistance } from './kernel-distance.js';
import { mixtureLikelihoods, scaled, scalingOf } from './likelihood.js';
import { NEIGHBOURS, neighbourhoods } from './neighbours.js';
import { readReference } from './reference.js';
import type { Measured } from './report.js';

/** Fréchet distance to the real images, or to reference statistics. */
export async function fdMetric(bench: Bench): Promise<Measured> {
  const features = await bench.features();
  const { record } = features;
  const samples = all(await features.samples());
  const { reference } = bench.options;
  const n = samples.indices.length;
  if (n <= record.dim) {
    bench.warn(
      `FD of ${n} samples with ${record.dim} features: the covariance is rank-deficient and the distance far too large; compare it only at equal numbers, and take more than ${record.dim} samples`,
    );
  }
  if (reference !== null) {
    const statistics = await readReference(reference, record);
    try {
      const found = await featureDistanceFigure(bench, samples, statistics);
      return { features: record, metrics: { fd: { ...found, n, floor: null } } };
    } finally {
      statistics.mean.dispose();
      statistics.covariance.dispose();
    }
  }
  const real = await realOf(features, 'fd', 2);
  const pair = await floorPair(bench, features, n);
  const floor = pair && {
    value: await featureDistance(bench, pair.other, pair.real),
    n: pair.other.indices.length,
  };
  const found = await featureDistanceFigure(bench, samples, all(real));
  return { features: record, metrics: { fd: { ...found, n, ...floorOf(floor, n) } } };
}

/** Kernel distance (KID) to the real images. */
export async function kidMetric(bench: Bench): Promise<Measured> {
  const features = await bench.features();
  const drawn = all(await features.samples());
  const samples = some(drawn, MANY);
  const real = some(all(await realOf(features, 'kid', 2)), MANY);
  const n = samples.indices.length;
  saySome(bench, 'KID', drawn, n);
  const { signal } = bench.context;
  const of = (a: Part, b: Part) => withTensors([a, b], ([x, y]) => kernelDistance(x, y, signal));
  const pair = await floorPair(bench, features, n);
  const floor = pair && {
    value: (await of(pair.other, some(pair.real, MANY))).value,
    n: pair.other.indices.length,
  };
  return {
    features: features.record,
    metrics: { kid: { ...(await of(samples, real)), n, ...floorOf(floor, n) } },
  };
}

/** Precision, recall, density and coverage, with equally many real images and samples. */
export async function prdcMetric(bench: Bench): Promise<Measured> {
  const features = await bench.features();
  const least = NEIGHBOURS + 1;
  const real = await realOf(features, 'prdc', least);
  const samples = all(await features.samples());
  const n = Math.min(samples.indices.length, real.count, MANY);
  if (n < least) throw tooFew('prdc', least);
  saySome(bench, 'precision and recall', samples, n);
  const { signal } = bench.context;
  const of = (a: Part, b: Part) => withTensors([a, b], ([x, y]) => neighbourhoods(y, x, signal));
  const found = await of(some(samples, n), some(all(real), n));
  const pair = await floorPair(bench, features, n);
  const floorN = pair ? Math.min(pair.other.indices.length, pair.real.indices.length) : 0;
  const floor = pair && floorN >= least ? await of(some(pair.other, floorN), some(pair.real, floorN)) : null;
  const figure = (name: keyof typeof found): Figure => {
    const value = floor && floor[name].reduce((sum, v) => sum + v, 0) / floorN;
    return { ...meanFigure(found[name]), n, ...floorOf(value === null ? null : { value, n: floorN }, n) };
  };
  return {
    features: features.record,
    metrics: {
      precision: figure('precision'),
      recall: figure('recall'),
      density: figure('density'),
      coverage: figure('coverage'),
    },
  };
}

/** Feature likelihood divergence, and its gap between training and held-out images. */
export async function fldMetric(bench: Bench): Promise<Measured> {
  const { reals, context } = bench;
  if (!reals?.isHeldOut || !reals.training) {
    throw new UserError(
      'NO_DATA',
      '--metrics fld needs training images and others that were held out; add --data with more images, or leave it out',
    );
  }
  const features = await bench.features();
  const drawn = all(await features.samples());
  const [samples, judged, training] = [
    some(drawn, MANY),
    some(all((await features.judged())!), MANY),
    some(all((await features.training())!), MANY),
  ];
  const n = samples.indices.length;
  saySome(bench, 'FLD', drawn, n);
  if (training.indices.length < 20 || judged.indices.length < 2) throw tooFew('fld', 20);
  return withTensors([samples, judged, training], async ([x, test, train]) => {
    const scaling = scalingOf(test);
    const [centres, held, seen] = [x, test, train].map((t) => scaled(t, scaling));
    // What real images score: one half of the training images as samples, the widths fitted to the other half.
    const half = Math.floor(seen.shape[0] / 2);
    const order = shuffled(seen.shape[0], 0);
    const rows = (indices: Int32Array) => seen.indexSelect(0, torch.tensor(indices, { dtype: 'int64' }));
    const [standIns, rest] = [rows(order.slice(0, Math.min(half, n))), rows(order.slice(half))];
    try {
      const base = await mixtureLikelihoods(standIns, rest, held, context.signal);
      progressOf(bench, 'fitting likelihoods', 2)(1);
      const ours = await mixtureLikelihoods(centres, seen, held, context.signal);
      const divergence = ours.test.map((nll, k) => 100 * (nll - base.test[k]));
      const gap = gapFigure(ours.fitted, ours.test);
      const baseGap = gapFigure(base.fitted, base.test);
      if (gap.high < baseGap.low) {
        bench.warn(
          'FLD: the samples lie nearer to the training images than other images of the same kind do: the network copies',
        );
      }
      const floor = { value: 0, n: standIns.shape[0] };
      return {
        features: features.record,
        metrics: {
          fld: { ...meanFigure(divergence), n, ...floorOf(floor, n) },
          fldGap: { ...gap, n, ...floorOf({ ...floor, value: baseGap.value }, n) },
        },
      };
    } finally {
      for (const t of [...Object.values(scaling), centres, held, seen, standIns, rest])
        (t as Tensor).dispose();
    }
  });
}

/** Mean difference, × 100, of as many fitted images as judged ones. */
function gapFigure(fitted: Float64Array, judged: Float64Array): Figure {
  const count = Math.min(fitted.length, judged.length);
  return meanFigure(Float64Array.from({ length: count }, (_, k) => 100 * (fitted[k] - judged[k])));
}

async function realOf(features: Features, metric: string, least: number): Promise<FeatureSet> {
  const real = await features.real();
  if (real === null) throw noReals(metric);
  if (real.count < least) throw tooFew(metric, least);
  return real;
}

/** What real images score, as a figure holds it. */
function floorOf(
  floor: { readonly value: number; readonly n: number } | null,
  n: number,
): Pick<Figure, 'floor' | 'floorN'> {
  if (floor === null) return { floor: null };
  return floor.n === n ? { floor: floor.value } : { floor: floor.value, floorN: floor.n };
}

function saySome(bench: Bench, what: string, drawn: Part, n: number): void {
  const count = drawn.indices.length;
  if (n < count && n === MANY)
    bench.warn(`${what} is measured on ${n} of the ${count} samples, since it needs all at once`);
}
