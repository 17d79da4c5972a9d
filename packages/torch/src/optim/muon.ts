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
import { Adam, type AdamOptions, moveAverages } from './adam.js';
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
  }

  get stepCount(): number {
    return this.#adam.stepCount;
  }

  step(lr: number = this.#lr, following: readonly FollowingAverage[] = []): void {
    this.#adam.step(lr);
    noGrad(() => {
      for (const { param, momentum } of this.#slots) {
        const { grad } = param;
        if (grad === null) continue;
        scope(() => {
          momentum.mul_(MOMENTUM).add_(grad);
          // Nesterov's look-ahead.
          const direction = grad.add(momentum, { alpha: MOMENTUM });
          const matrix = direction.reshape([param.shape[0], -1]);
          const factor = ADAM_RMS * Math.sqrt(Math.max(...matrix.shape));
          param.add_(orthogonalised(matrix).reshape(param.shape), { alpha: -lr * factor });
        });
      }
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

/**
 * The nearest matrix with orthogonal rows or columns, about: five Newton–Schulz steps bring singular values to 0.7 … 1.2.
 * @param matrix [m, n]
 */
function orthogonalised(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape;
  const isTall = rows > columns;
  const wide = isTall ? matrix.t() : matrix;
  let X = wide.div(wide.norm().add(1e-7));
  for (let i = 0; i < ITERATIONS; i++) {
    const gram = X.matmul(X.t());
    const polynomial = ops.addmm(gram, gram, gram, { beta: B, alpha: C });
    X = ops.addmm(X, polynomial, X, { beta: A });
  }
  return isTall ? X.t() : X;
}
