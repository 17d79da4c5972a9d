/**
 * Operators that are written by hand because no single schema is what a user means.
 */
import type { Device, DType } from '../dtype.js';
import { native } from '../native.js';
import type { Generator } from '../random.js';
import { Tensor } from '../tensor.js';
import * as ops from './generated.js';

/** Options of {@link randLike} and {@link randnLike}. */
export interface RandomLikeOptions {
  readonly dtype?: DType;
  readonly device?: Device;
  readonly generator?: Generator | null;
}

/** Uniform on [0, 1), of the size and type of `self`. (In the schemas only newer libtorch takes a generator.) */
export function randLike(self: Tensor, options: RandomLikeOptions = {}): Tensor {
  const { dtype, device, generator } = options;
  return ops.emptyLike(self.detach(), { dtype, device }).uniform_(0, 1, { generator });
}

/** Standard normal, of the size and type of `self`. (In the schemas only newer libtorch takes a generator.) */
export function randnLike(self: Tensor, options: RandomLikeOptions = {}): Tensor {
  const { dtype, device, generator } = options;
  return ops.emptyLike(self.detach(), { dtype, device }).normal_(0, 1, { generator });
}

/**
 * Gradients of `outputs` with respect to `inputs`, returned instead of accumulated.
 *
 * @param gradOutputs - Gradients with respect to the outputs; not needed for single elements.
 * @returns One gradient per input; null where the outputs do not depend on it and `allowUnused` is set.
 */
export function grad(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  options: {
    readonly gradOutputs?: readonly Tensor[];
    readonly retainGraph?: boolean;
    readonly createGraph?: boolean;
    readonly allowUnused?: boolean;
  } = {},
): (Tensor | null)[] {
  const handles = (tensors: readonly Tensor[]) => tensors.map((tensor) => tensor._h);
  return native()
    .grad(
      handles(outputs),
      handles(inputs),
      options.gradOutputs && handles(options.gradOutputs),
      options.retainGraph,
      options.createGraph,
      options.allowUnused,
    )
    .map((handle) => (handle === null ? null : new Tensor(handle)));
}

declare module '../tensor.js' {
  interface Tensor {
    /** Uniform on [0, 1), of the size and type of `self`. */
    randLike(options?: RandomLikeOptions): Tensor;
    /** Standard normal, of the size and type of `self`. */
    randnLike(options?: RandomLikeOptions): Tensor;
  }
}

Tensor.prototype.randLike = function (options) {
  return randLike(this, options);
};
Tensor.prototype.randnLike = function (options) {
  return randnLike(this, options);
};
