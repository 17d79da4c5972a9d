/**
 * Muon (Jordan et al. 2024): the momentum of a weight matrix is made orthogonal before it is applied, so that all of its
 * directions move alike. Convolutions are matrices [out, in · kernel]. The result is scaled to the size of Adam's
 * updates (Liu et al. 2025, arXiv 2502.16982), whose learning rates then fit; all other parameters are Adam's.
 * Limits: no weight decay.
 */
import { noGrad } from '../autograd.js';
import { checkStateDict } from '../nn/state-dict.js';
import * as ops from '../ops/index.js';
import { keep, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { Adam, type AdamOptions, isPlain, moveAverages } from './adam.js';
import type { FollowingAverage, Optimizer } from './optimizer.js';

const MOMENTUM = 0.95;
/** Of the quintic polynomial that drives singular values towards 1. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const ITERATIONS = 5;
/** Root mean square of an element of Adam's update, about. */
const ADAM_RMS = 0.2;

/** Settings of {@link Muon}. */
export interface MuonOptions extends Pick<AdamOptions, 'lr' | 'betas' | 'eps'> {
  /** Which parameters are matrices; they have at least two dimensions. The others, at least one, are Adam's. */
  readonly isMatrix: (name: string, param: Tensor) => boolean;
}

interface Slot {
  readonly name: string;
  readonly param: Tensor;
  readonly momentum: Tensor;
}

/**
 * Muon for matrices, Adam for the rest.
 * @example
 * ```ts
 * const network = new Linear(8, 4);
 * const isMatrix = (name: string) => name.endsWith('weight');
 * const optimizer = new torch.Muon(network.namedParameters(), { lr: 1e-3, isMatrix });
 * network.forward(torch.ones([1, 8])).sum().backward();
 * optimizer.step();
 * optimizer.dispose();
 * ```
 */
export class Muon implements Optimizer {
  readonly #slots: Slot[] = [];
  /** Matrices of one shape: they are made orthogonal together, in a few calls. */
  readonly #groups: Slot[][];
  readonly #params: Tensor[];
  readonly #adam: Adam;
  readonly #lr: number;

  constructor(params: Iterable<readonly [string, Tensor]>, { isMatrix, ...options }: MuonOptions) {
    const all = [...params];
    this.#params = all.map(([, param]) => param);
    this.#lr = options.lr ?? 1e-3;
    this.#adam = new Adam(
      all.filter(([name, param]) => !isMatrix(name, param)),
      options,
    );
    noGrad(() => {
      for (const [name, param] of all)
        if (isMatrix(name, param)) this.#slots.push({ name, param, momentum: keep(ops.zerosLike(param)) });
    });
    const groups = new Map<string, Slot[]>();
    for (const slot of this.#slots) {
      const shape = matrixShape(slot.param).join();
      groups.set(shape, [...(groups.get(shape) ?? []), slot]);
    }
    this.#groups = [...groups.values()];
  }

  get stepCount(): number {
    return this.#adam.stepCount;
  }

  step(lr: number = this.#lr, following: readonly FollowingAverage[] = []): void {
    this.#adam.step(lr);
    noGrad(() => {
      const areDense = this.#slots.every(({ param }) => isPlain(param) && isDense(param));
      // A gradient that is looked at is a handle, which the scope closes.
      if (areDense) scope(() => moveOnCpu(this.#slots, lr));
      else for (const slots of this.#groups) scope(() => moveMatrices(slots, lr));
    });
    for (const average of following) moveAverages(average, this.#params);
  }

  zeroGrad(): void {
    for (const param of this.#params) param.grad = null;
  }

  /** Adam's state, and `momentum.<name>` for each matrix. */
  stateDict(): Map<string, Tensor> {
    const dict = this.#adam.stateDict();
    for (const { name, momentum } of this.#slots) dict.set(`momentum.${name}`, momentum);
    return dict;
  }

  loadStateDict(dict: ReadonlyMap<string, Tensor>): void {
    checkStateDict('Muon', this.stateDict(), dict, { strict: true });
    this.#adam.loadStateDict(
      new Map(Array.from(this.#adam.stateDict().keys(), (name) => [name, dict.get(name)!])),
    );
    noGrad(() => {
      for (const { name, momentum } of this.#slots) momentum.copy_(dict.get(`momentum.${name}`)!);
    });
  }

  dispose(): void {
    this.#adam.dispose();
    for (const { momentum } of this.#slots) momentum.dispose();
  }
}

/** Moves matrices that have a gradient, in one call. */
function moveOnCpu(slots: readonly Slot[], lr: number): void {
  const present = slots.filter(({ param }) => param.grad !== null);
  ops.muonUpdate_(
    present.map(({ param }) => param),
    present.map(({ momentum }) => momentum),
    { lr: lr * ADAM_RMS, momentum: MOMENTUM, polynomial: [A, B, C], iterations: ITERATIONS },
  );
}

/** Moves matrices of one shape that have a gradient. */
function moveMatrices(slots: readonly Slot[], lr: number): void {
  const present = slots.filter(({ param }) => param.grad !== null);
  if (present.length === 0) return;
  const shape = matrixShape(present[0].param);
  const factor = lr * ADAM_RMS * Math.sqrt(Math.max(...shape));
  const directions = present.map(({ param, momentum }) => {
    const grad = param.grad!;
    momentum.mul_(MOMENTUM).add_(grad);
    // Nesterov's look-ahead.
    return grad.add(momentum, { alpha: MOMENTUM }).reshape(shape);
  });
  const updates = orthogonalised(ops.stack(directions));
  present.forEach(({ param }, i) => {
    param.add_(updates.select(0, i).reshape(param.shape), { alpha: -factor });
  });
}

const isDense = (tensor: Tensor): boolean =>
  tensor.isContiguous() || (tensor.ndim === 4 && tensor.isContiguous('channelsLast'));

/** A weight as a matrix: [out, all the rest]. */
function matrixShape({ shape: [rows, ...rest] }: Tensor): [number, number] {
  return [rows, rest.reduce((product, size) => product * size, 1)];
}

/**
 * The nearest matrices with orthogonal rows or columns, about: five Newton–Schulz steps bring singular values to 0.7 … 1.2.
 * A step multiplies X by a polynomial in its Gram matrix, X·Xᵀ. All these polynomials commute, so the steps are taken on the
 * small Gram matrix alone, and X is multiplied once at the end: less than half of the arithmetic for 3×3 convolutions.
 * @param matrices [L, m, n]
 */
function orthogonalised(matrices: Tensor): Tensor {
  const [, rows, columns] = matrices.shape;
  const isTall = rows > columns;
  const wide = isTall ? matrices.transpose(1, 2) : matrices;
  const X = wide.div(wide.square().sum([1, 2], true).sqrt().add(1e-7));
  const identity = ops.eye(Math.min(rows, columns), { device: matrices.device });
  let gram = X.matmul(X.transpose(1, 2));
  let product: Tensor | null = null;
  for (let i = 0; i < ITERATIONS; i++) {
    const polynomial = ops.baddbmm(gram, gram, gram, { beta: B, alpha: C }).add(identity, { alpha: A });
    product = product === null ? polynomial : polynomial.matmul(product);
    if (i < ITERATIONS - 1) gram = polynomial.matmul(gram).matmul(polynomial);
  }
  const orthogonal = product!.matmul(X);
  return isTall ? orthogonal.transpose(1, 2) : orthogonal;
}
