/** Pixel blitting: flips, quarter turns and whole-pixel shifts, which need no interpolation. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { columns, gated, type Op, type OpContext, symmetric } from './op.js';

/** Mirrors along a dimension, or not. */
function flipOp(name: 'xflip' | 'yflip', dim: number): Op<Tensor> {
  return {
    name,
    apply(images, context) {
      const w = wholeNumber(context, 2); // [N, 1, 1, 1]
      return { target: torch.where(w.eq(1), images.flip([dim]), images), labels: columns(w) };
    },
  };
}

/** Quarter turns, composed of mirrorings and a transposition. */
const rotateInt: Op<Tensor> = {
  name: 'rotateInt',
  apply(images, context) {
    const { height, width } = context;
    if (height !== width) {
      throw new RangeError(
        `Quarter turns (rotateInt) need square images; these have ${width}×${height} pixels.`,
      );
    }
    const w = wholeNumber(context, 4);
    const isOneOf = (a: number, b: number) => w.eq(a).logicalOr(w.eq(b));
    const mirrored = torch.where(isOneOf(1, 2), images.flip([3]), images);
    const turned = torch.where(isOneOf(2, 3), mirrored.flip([2]), mirrored);
    const target = torch.where(isOneOf(1, 3), turned.transpose(2, 3), turned);
    return { target, labels: columns(isOneOf(1, 2), isOneOf(2, 3)) };
  },
};

/** Shifts by whole pixels; what enters at an edge is mirrored there. */
const translateInt: Op<Tensor> = {
  name: 'translateInt',
  apply(images, context) {
    const { random, count: N, height: H, width: W, shape } = context;
    const value = symmetric(random, 'value', [2, N, 1, 1, 1]);
    const [x, y] = gated(value, context, [1, N, 1, 1, 1]).unbind(0); // [N, 1, 1, 1]
    const tx = x.mul(W * shape.translateIntMax).round();
    const ty = y.mul(H * shape.translateIntMax).round();
    const labels = columns(tx.div(W * shape.translateIntMax), ty.div(H * shape.translateIntMax));
    const cols = torch.arange(W, { dtype: 'int64', device: images.device }).sub(tx.to({ dtype: 'int64' }));
    const rows = torch.arange(H, { dtype: 'int64', device: images.device }).add(ty.to({ dtype: 'int64' }));
    const shifted = images
      .gather(3, mirrorIndex(cols, W).expand(images.shape))
      .gather(2, mirrorIndex(rows, H).transpose(2, 3).expand(images.shape));
    return { target: shifted, labels };
  },
};

/** Uniform integers below `high`, [N, 1, 1, 1]; 0 where the gate stays shut. */
function wholeNumber(context: OpContext, high: number): Tensor {
  return gated(context.random.randint('value', 0, high, [context.count, 1, 1, 1]), context);
}

/** Folds positions into [0, size) by mirroring without repeating the edge. */
function mirrorIndex(position: Tensor, size: number): Tensor {
  const last = size - 1;
  if (last === 0) return torch.zerosLike(position);
  return position
    .remainder(2 * last)
    .neg()
    .add(last)
    .abs()
    .neg()
    .add(last);
}

export const blitOps: readonly Op<Tensor>[] = [
  flipOp('xflip', 3),
  flipOp('yflip', 2),
  rotateInt,
  translateInt,
];
