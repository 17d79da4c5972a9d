/**
 * Geometric transformations. Each multiplies the map from output to input positions, 3×3 homogeneous matrices on
 * column vectors (x, y, 1) in pixels, with the image's centre as origin, x to the right and y down.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { columns, gated, matrices, type Op, symmetric } from './op.js';

function translation(x: Tensor, y: Tensor): Tensor {
  return matrices(
    [
      [1, 0, x],
      [0, 1, y],
      [0, 0, 1],
    ],
    x,
  );
}

function scaling(x: Tensor, y: Tensor): Tensor {
  return matrices(
    [
      [x, 0, 0],
      [0, y, 0],
      [0, 0, 1],
    ],
    x,
  );
}

function rotation(angle: Tensor): Tensor {
  const [cos, sin] = [angle.cos(), angle.sin()];
  return matrices(
    [
      [cos, sin.neg(), 0],
      [sin, cos, 0],
      [0, 0, 1],
    ],
    angle,
  );
}

const scale: Op<Tensor> = {
  name: 'scale',
  apply(map, context) {
    const w = gated(context.random.randn('value', [context.count]), context); // [N]
    const shrink = torch.pow(2, w.mul(-context.shape.scaleStd));
    return { target: map.matmul(scaling(shrink, shrink)), labels: columns(w) };
  },
};

const rotateFrac: Op<Tensor> = {
  name: 'rotateFrac',
  apply(map, context) {
    const halfTurns = symmetric(context.random, 'value', [context.count]);
    const w = gated(halfTurns.mul(Math.PI * context.shape.rotateFracMax), context);
    return { target: map.matmul(rotation(w)), labels: columns(w.cos().sub(1), w.sin()) };
  },
};

/** Stretches along one direction and shrinks across it; the direction is an axis or random. */
const aniso: Op<Tensor> = {
  name: 'aniso',
  apply(map, context) {
    const { random, count: N, shape } = context;
    const value = random.randn('value', [N]);
    const angle = symmetric(random, 'angle', [N]).mul(Math.PI);
    const w = gated(value, context);
    const r = torch.where(random.rand('angle_gate', [N]).lt(shape.anisoRotateProb), angle, 0);
    const stretch = torch.pow(2, w.mul(shape.anisoStd));
    const along = scaling(stretch.reciprocal(), stretch);
    const target = map.matmul(rotation(r.neg())).matmul(along).matmul(rotation(r));
    return { target, labels: columns(w.mul(r.cos()), w.mul(r.sin())) };
  },
};

const translateFrac: Op<Tensor> = {
  name: 'translateFrac',
  apply(map, context) {
    const { random, count: N, width, height, shape } = context;
    const [x, y] = gated(random.randn('value', [2, N], 1), context, [1, N], 1).unbind(0); // [N]
    const target = map.matmul(
      translation(x.mul(-width * shape.translateFracStd), y.mul(-height * shape.translateFracStd)),
    );
    return { target, labels: columns(x, y) };
  },
};

export const geometricOps: readonly Op<Tensor>[] = [scale, rotateFrac, aniso, translateFrac];
