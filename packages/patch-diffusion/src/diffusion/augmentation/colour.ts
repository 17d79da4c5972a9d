/**
 * Colour transformations. Each multiplies, from the left, a 4×4 matrix per sample that acts on (r, g, b, 1). Grey
 * images are taken along the grey axis; other channel counts have no colour.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { columns, gated, matrices, type Op, symmetric } from './op.js';

/** The grey axis is v = (1, 1, 1, 0) / √3; P = v·vᵀ projects onto it. */
function greyProjection(like: Tensor): Tensor {
  const third = 1 / 3;
  const row = [third, third, third, 0];
  return torch.tensor([row, row, row, [0, 0, 0, 0]], { dtype: 'float32', device: like.device });
}

function identity(like: Tensor): Tensor {
  return torch.eye(4, { dtype: 'float32', device: like.device });
}

const brightness: Op<Tensor> = {
  name: 'brightness',
  apply(colour, context) {
    const w = gated(context.random.randn('value', [context.count]), context);
    const b = w.mul(context.shape.brightnessStd);
    const add = matrices(
      [
        [1, 0, 0, b],
        [0, 1, 0, b],
        [0, 0, 1, b],
        [0, 0, 0, 1],
      ],
      b,
    );
    return { target: add.matmul(colour), labels: columns(w) };
  },
};

const contrast: Op<Tensor> = {
  name: 'contrast',
  apply(colour, context) {
    const w = gated(context.random.randn('value', [context.count]), context);
    const c = torch.pow(2, w.mul(context.shape.contrastStd));
    const multiply = matrices(
      [
        [c, 0, 0, 0],
        [0, c, 0, 0],
        [0, 0, c, 0],
        [0, 0, 0, 1],
      ],
      c,
    );
    return { target: multiply.matmul(colour), labels: columns(w) };
  },
};

/** Inverts the luma: I − 2·v·vᵀ. */
const lumaflip: Op<Tensor> = {
  name: 'lumaflip',
  apply(colour, context) {
    const w = gated(context.random.randint('value', 0, 2, [context.count, 1, 1]), context);
    const reflect = identity(colour).sub(greyProjection(colour).mul(2).mul(w));
    return { target: reflect.matmul(colour), labels: columns(w) };
  },
};

/** Rotates about the grey axis (Rodrigues' formula: c·I + s·[v]ₓ + (1 − c)·v·vᵀ). */
const hue: Op<Tensor> = {
  name: 'hue',
  apply(colour, context) {
    const halfTurns = symmetric(context.random, 'value', [context.count]);
    const w = gated(halfTurns.mul(Math.PI * context.shape.hueMax), context);
    const [c, s] = [w.cos(), w.sin().mul(1 / Math.sqrt(3))];
    const third = c.neg().add(1).div(3);
    const [same, next, previous] = [c.add(third), third.sub(s), third.add(s)];
    const turn = matrices(
      [
        [same, next, previous, 0],
        [previous, same, next, 0],
        [next, previous, same, 0],
        [0, 0, 0, 1],
      ],
      w,
    );
    return { target: turn.matmul(colour), labels: columns(w.cos().sub(1), w.sin()) };
  },
};

/** Scales what is orthogonal to the grey axis: P + (I − P)·2^(std·w). */
const saturation: Op<Tensor> = {
  name: 'saturation',
  apply(colour, context) {
    const w = gated(context.random.randn('value', [context.count, 1, 1]), context);
    const factor = torch.pow(2, w.mul(context.shape.saturationStd));
    const grey = greyProjection(colour);
    const stretch = grey.add(identity(colour).sub(grey).mul(factor));
    return { target: stretch.matmul(colour), labels: columns(w) };
  },
};

export const colourOps: readonly Op<Tensor>[] = [brightness, contrast, lumaflip, hue, saturation];

/**
 * Applies colour transformations.
 * @param images [N, 3, H, W] or [N, 1, H, W]
 * @param colour [N, 4, 4]
 * @throws RangeError for another number of channels
 */
export function transformColours(images: Tensor, colour: Tensor): Tensor {
  const [N, C, H, W] = images.shape;
  if (C !== 1 && C !== 3) {
    throw new RangeError(`Colour augmentation needs images of 3 channels, or 1; these have ${C}.`);
  }
  const rows = colour.narrow(1, 0, 3);
  const affine = C === 3 ? rows : greyRow(rows);
  const pixels = images.reshape([N, C, H * W]);
  const changed = affine
    .narrow(2, 0, C)
    .matmul(pixels)
    .add(affine.narrow(2, C, 1)); // [N, C, H·W]
  return changed.reshape([N, C, H, W]);
}

/** The mean of the three rows, for equal channels: factor and offset, [N, 1, 2]. */
function greyRow(rows: Tensor): Tensor {
  const mean = rows.mean([1], true); // [N, 1, 4]
  return torch.cat([mean.narrow(2, 0, 3).sum([2], true), mean.narrow(2, 3, 1)], 2);
}
