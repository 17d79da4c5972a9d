/**
 * The augmentation pipeline: blitting, geometry, colour, each drawn per sample; the network is told what was done and
 * so learns the distribution of the images without it. Runs on the images' device, for any extent and, without
 * colour, for any number of channels. Draws are named `augment.<op>.<what>`, with the op in snake case.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { type RandomSource, withPrefix } from '../../common/random-source.js';
import type { Augment } from '../../patches/batches.js';
import { blitOps } from './blit.js';
import { colourOps, transformColours } from './colour.js';
import { geometricOps } from './geometry.js';
import type { Op, OpContext } from './op.js';
import { AUGMENT_SHAPE_DEFAULTS, type AugmentSpec, activeOps } from './spec.js';
import { planWarp, type WarpPlan, warpImages } from './warp.js';

export { type AugmentSpec, activeOps, augmentLabelDim, trainingAugment } from './spec.js';

/** What went on inside, for tests. */
export interface AugmentTrace {
  warp?: WarpPlan;
}

/**
 * Builds the pipeline; no gradient flows through it.
 * @example
 * ```ts
 * const augment = createAugment(trainingAugment(0.12));
 * const { images, labels } = augment(torch.rand([4, 3, 16, 16]), new TorchRandom()); // labels: [4, 9]
 * ```
 */
export function createAugment(spec: AugmentSpec, trace?: AugmentTrace): Augment {
  return (images, random) => torch.noGrad(() => torch.scope(() => augment(images, random, spec, trace)));
}

function augment(images: Tensor, random: RandomSource, spec: AugmentSpec, trace?: AugmentTrace) {
  const [count, , height, width] = images.shape;
  const active = new Set(activeOps(spec));
  const context = { count, height, width, shape: { ...AUGMENT_SHAPE_DEFAULTS, ...spec } };
  const labels: Tensor[] = [];

  /** Runs those of a group's transformations that are on; null when none is. */
  const run = (ops: readonly Op<Tensor>[], start: () => Tensor): Tensor | null => {
    const chosen = ops.filter(({ name }) => active.has(name));
    if (!chosen.length) return null;
    return chosen.reduce((target, op) => {
      const draws = withPrefix(random, `augment.${snakeCase(op.name)}.`);
      const opContext: OpContext = { ...context, random: draws, probability: spec[op.name]! * (spec.p ?? 1) };
      const result = op.apply(target, opContext);
      labels.push(result.labels);
      return result.target;
    }, start());
  };
  const identity = (size: number) => () =>
    torch.eye(size, { dtype: 'float32', device: images.device }).expand([count, size, size]);

  let result = run(blitOps, () => images) ?? images;
  const map = run(geometricOps, identity(3));
  if (map) {
    const warp = planWarp(map, { height, width });
    if (trace) trace.warp = { ...warp, theta: torch.keep(warp.theta) };
    result = warpImages(result, warp);
  }
  const colour = run(colourOps, identity(4));
  if (colour) result = transformColours(result, colour);

  const none = () => torch.zeros([count, 0], { device: images.device });
  return {
    images: result === images ? images.clone() : result,
    labels: labels.length ? torch.cat(labels, 1) : none(),
  };
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
