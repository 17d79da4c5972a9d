/** What the metrics of one evaluation work with. */
import type { EvaluateOptions } from '../config/evaluate-options.js';
import { chooseSubset } from '../data/subset.js';
import type { EvaluationContext } from './events.js';
import type { Features } from './features/feature-set.js';
import { dataPixels, type Pixels, somePixels } from './pixels.js';
import type { Reals } from './reals.js';
import type { Model, Subject } from './subject.js';
import type { WorkFolder } from './work-folder.js';

/** Images that metrics take at most, where all of them must be in memory at once. */
export const MANY = 10_000;

export interface Bench {
  readonly subject: Subject;
  readonly options: EvaluateOptions;
  /** Null for images. */
  readonly model: Model | null;
  /** Null where there is nothing to compare with but reference statistics. */
  readonly reals: Reals | null;
  readonly work: WorkFolder;
  readonly context: EvaluationContext;
  readonly warn: (message: string) => void;
  /** The samples, drawn at the first call, or the images of the subject. */
  readonly samples: () => Promise<Pixels>;
  /** The features that are compared, opened at the first call. */
  readonly features: () => Promise<Features>;
}

/** For the progress line of one stage. */
export const progressOf =
  ({ context, subject }: Bench, what: string, total: number) =>
  (done: number) =>
    context.onEvent?.({ type: 'progress', subject: subject.name, what, done, total });

/** The real images that samples are compared with. */
export function realPixels({ reals, options, model }: Bench): Pixels | null {
  if (reals === null) return null;
  const set = options.real === 'training' && reals.training ? reals.training : reals.judged;
  return dataPixels(set, model?.decoder ?? null);
}

/** The images that the network was trained on, or null. */
export function trainingPixels({ reals, model }: Bench): Pixels | null {
  return reals?.training ? dataPixels(reals.training, model?.decoder ?? null) : null;
}

/** As many images, spread over the whole set: sets may be in the order of their classes. */
export function spread(pixels: Pixels, count: number): Pixels {
  return somePixels(pixels, chooseSubset(pixels.count, count, 0));
}

/**
 * Two sets of real images, at most `count` each, whose distance is the least that samples can be expected to reach:
 * held-out and training images, else two halves of the same set. Null where there are too few.
 */
export function realPair(bench: Bench, count: number): readonly [Pixels, Pixels] | null {
  const real = realPixels(bench);
  if (real === null) return null;
  const training = trainingPixels(bench);
  if (bench.reals?.isHeldOut && bench.options.real === 'held-out' && training !== null) {
    const n = Math.min(count, real.count, training.count);
    return n < 2 ? null : [spread(real, n), spread(training, n)];
  }
  const half = Math.floor(real.count / 2);
  const n = Math.min(count, half);
  if (n < 2) return null;
  const first = chooseSubset(real.count, half, 0);
  const taken = new Set(first);
  const second = Array.from({ length: real.count }, (_, i) => i).filter((i) => !taken.has(i));
  return [spread(somePixels(real, first), n), spread(somePixels(real, second), n)];
}
