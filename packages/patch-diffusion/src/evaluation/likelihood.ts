/**
 * Feature likelihood divergence (Jiralerspong et al. 2023): how likely held-out images are under a mixture of round normal
 * distributions, one centred on each sample, whose widths are fitted to the training images. It sees quality, diversity
 * and copying together: a width that fits copies of training images is useless for others.
 * The mixture has one component more, the normal distribution of all real images, so that no image is impossible.
 */
import { setImmediate } from 'node:timers/promises';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { Adam, keep } from '@patch-diffusion/torch';
import { squaredDistances } from './neighbours.js';

const LEARNING_RATE = 0.5;
const EPOCHS = 50;
/** Fitting stops where the likelihood per dimension has changed by less than this over so many epochs. */
const [CHANGE, PATIENCE] = [5e-4, 5];
/** Rows of the matrix of distances at a time. */
const ROWS = 1024;

/** Mean and standard deviation of features, by which all are scaled. */
export interface Scaling {
  readonly mean: Tensor;
  readonly std: Tensor;
}

/** @param features float64 [N, D] */
export function scalingOf(features: Tensor): Scaling {
  return torch.scope(() => {
    const [variance, mean] = torch.varMean(features, [0], { correction: 0 });
    // A feature that is the same for all images tells nothing, and stays at 0.
    return { mean, std: variance.sqrt().clampMin(1e-6) };
  });
}

/** float64 [N, D] → float32 [N, D] */
export function scaled(features: Tensor, { mean, std }: Scaling): Tensor {
  return torch.scope(() => features.sub(mean).div(std).to({ dtype: 'float32' }));
}

/** Negative log-likelihood per dimension of each image of two sets. */
export interface Likelihoods {
  readonly test: Float64Array;
  /** Of the images that the widths were fitted to. */
  readonly fitted: Float64Array;
}

/**
 * Fits the mixture centred on `centres` to `training`, and judges both sets by it.
 * @param centres float32 [G, D], scaled as the others
 */
export async function mixtureLikelihoods(
  centres: Tensor,
  training: Tensor,
  test: Tensor,
  signal?: AbortSignal,
): Promise<Likelihoods> {
  const [G, D] = centres.shape;
  const logVariance = keep(torch.zeros([G]).setRequiresGrad(true));
  const optimizer = new Adam([['logVariance', logVariance]], { lr: LEARNING_RATE });
  const distances = await blocksOf(training, centres, signal);
  const total = training.shape[0];
  try {
    const history: number[] = [];
    for (let epoch = 0; epoch < EPOCHS; epoch++) {
      let sum = 0;
      for (const block of distances) {
        signal?.throwIfAborted();
        sum += torch.scope(() => {
          const loss = logDensity(block, logVariance, D).neg().sum().div(D);
          loss.div(total).backward();
          return loss.item();
        });
        await setImmediate();
      }
      optimizer.step();
      logVariance.grad = null;
      const before = history.at(-PATIENCE);
      history.push(sum / total);
      if (before !== undefined && Math.abs(before - sum / total) < CHANGE) break;
    }
    const fitted = judge(distances, logVariance, D);
    const ofTest = await blocksOf(test, centres, signal);
    const judged = judge(ofTest, logVariance, D);
    dispose(ofTest);
    return { test: judged, fitted };
  } finally {
    dispose(distances);
    optimizer.dispose();
    logVariance.dispose();
  }
}

/** Squared distances of some images to the centres, [N, G], and to the origin, [N]. */
interface Block {
  readonly toCentres: Tensor;
  readonly toOrigin: Tensor;
}

async function blocksOf(x: Tensor, centres: Tensor, signal?: AbortSignal): Promise<Block[]> {
  const blocks: Block[] = [];
  try {
    for (let start = 0; start < x.shape[0]; start += ROWS) {
      signal?.throwIfAborted();
      const rows = Math.min(ROWS, x.shape[0] - start);
      blocks.push(
        torch.noGrad(() =>
          torch.scope(() => {
            const part = x.narrow(0, start, rows).to({ dtype: 'float64' });
            const toCentres = squaredDistances(part, centres.to({ dtype: 'float64' }));
            return {
              toCentres: toCentres.to({ dtype: 'float32' }),
              toOrigin: part.square().sum([1]).to({ dtype: 'float32' }),
            };
          }),
        ),
      );
      await setImmediate();
    }
    return blocks;
  } catch (error) {
    dispose(blocks);
    throw error;
  }
}

function dispose(blocks: readonly Block[]): void {
  for (const { toCentres, toOrigin } of blocks) {
    toCentres.dispose();
    toOrigin.dispose();
  }
}

/** Log-density of the mixture, [N], without the constant (D/2) ln 2π. */
function logDensity({ toCentres, toOrigin }: Block, logVariance: Tensor, D: number): Tensor {
  const components = toCentres.div(logVariance.exp()).add(logVariance.mul(D)).mul(-0.5); // [N, G]
  const wide = toOrigin.mul(-0.5).reshape([-1, 1]);
  const count = toCentres.shape[1] + 1;
  return torch.logsumexp(torch.cat([components, wide], 1), 1).sub(Math.log(count));
}

function judge(blocks: readonly Block[], logVariance: Tensor, D: number): Float64Array {
  const parts = blocks.map((block) =>
    torch.noGrad(() =>
      torch.scope(
        () =>
          logDensity(block, logVariance, D)
            .neg()
            .div(D)
            .add(0.5 * Math.log(2 * Math.PI))
            .to({ dtype: 'float64' })
            .toTypedArray() as Float64Array,
      ),
    ),
  );
  const all = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
