/**
 * Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) with the arithmetic of `torch.optim`.
 * One update runs along one of three paths, equal to rounding: a fused kernel (ours for float32 on a CPU, else
 * libtorch's where it has one for the device); list operators (few launches, what a GPU wants); or tensor by tensor
 * (fewest passes over memory, measured three times as fast as list operators on a CPU).
 * Limits: one step count for all parameters (those without a gradient are skipped, as in PyTorch); no amsgrad.
 */
import { noGrad } from '../autograd.js';
import { hasOp } from '../native.js';
import { checkStateDict, StateDictError } from '../nn/state-dict.js';
import * as ops from '../ops/index.js';
import { keep, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import type { FollowingAverage, Optimizer } from './optimizer.js';

/** Which path an optimiser takes. */
export type AdamPath = 'fused' | 'foreach' | 'plain';

/** Settings of {@link Adam} and {@link AdamW}. */
export interface AdamOptions {
  /** Learning rate, ≥ 0; `step(lr)` overrides it for one step. Default 1e-3. */
  readonly lr?: number;
  /** Decay of the first and second moment, each in [0, 1). Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to the denominator, ≥ 0. Default 1e-8. */
  readonly eps?: number;
  /** ≥ 0; L2 penalty in Adam (default 0), decoupled in AdamW (default 0.01). */
  readonly weightDecay?: number;
  /** Force a path, for tests and measurements; by default the quickest that works. */
  readonly path?: AdamPath;
}

interface Slot {
  readonly name: string;
  readonly param: Tensor;
  readonly expAvg: Tensor;
  readonly expAvgSq: Tensor;
}

/** The lists that one kernel call takes: same device, same element type. */
interface Batch {
  readonly params: Tensor[];
  readonly grads: Tensor[];
  readonly expAvgs: Tensor[];
  readonly expAvgSqs: Tensor[];
}

/** Per-step constants. */
interface Rates {
  readonly lr: number;
  readonly stepSize: number;
  readonly sqrtCorrection2: number;
}

abstract class AdamBase implements Optimizer {
  /** The learning rate of `step()` without argument. */
  lr: number;
  /** The path in use. */
  readonly path: AdamPath;

  readonly #slots: Slot[] = [];
  readonly #step: Tensor;
  readonly #decoupled: boolean;
  readonly #beta1: number;
  readonly #beta2: number;
  readonly #eps: number;
  readonly #weightDecay: number;
  #stepCount = 0;

  protected constructor(
    params: Iterable<readonly [string, Tensor]>,
    options: AdamOptions,
    defaults: { decoupled: boolean; weightDecay: number },
  ) {
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = defaults.weightDecay } = options;
    this.lr = checked('lr', lr, lr >= 0, 'at least 0');
    this.#beta1 = checked('betas[0]', betas[0], betas[0] >= 0 && betas[0] < 1, 'in [0, 1)');
    this.#beta2 = checked('betas[1]', betas[1], betas[1] >= 0 && betas[1] < 1, 'in [0, 1)');
    this.#eps = checked('eps', eps, eps >= 0, 'at least 0');
    this.#weightDecay = checked('weightDecay', weightDecay, weightDecay >= 0, 'at least 0');
    this.#decoupled = defaults.decoupled;

    const names = new Set<string>();
    noGrad(() => {
      for (const [name, param] of params) {
        if (names.has(name)) throw new Error(`optimizer: two parameters are named ${JSON.stringify(name)}`);
        names.add(name);
        const [expAvg, expAvgSq] = [keep(ops.zerosLike(param)), keep(ops.zerosLike(param))];
        this.#slots.push({ name, param, expAvg, expAvgSq });
      }
    });
    const first = this.#slots[0]?.param;
    if (first === undefined) throw new Error('optimizer: no parameters were given');
    this.#step = keep(ops.zeros([], { dtype: 'float32', device: first.device }));
    this.path = options.path ?? quickestPath(this.#slots, defaults.decoupled);
  }

  /** Number of steps taken, those before a loaded state included. */
  get stepCount(): number {
    return this.#stepCount;
  }

  /**
   * Updates all parameters that have a gradient.
   *
   * @param lr - Learning rate of this step; default: the `lr` property.
   * @param following - Moving averages of the parameters, which move after them: on a CPU in the same pass.
   */
  step(lr: number = this.lr, following: readonly FollowingAverage[] = []): void {
    checked('lr', lr, lr >= 0, 'at least 0');
    noGrad(() =>
      scope(() => {
        this.#step.add_(1);
        this.#stepCount++;
        if (this.path === 'fused' && this.#slots.every(({ param }) => isPlain(param))) {
          this.#updateOnCpu(lr, following);
          return;
        }
        const rates: Rates = {
          lr,
          stepSize: lr / (1 - this.#beta1 ** this.#stepCount),
          sqrtCorrection2: Math.sqrt(1 - this.#beta2 ** this.#stepCount),
        };
        for (const batch of this.#batches()) this.#update(batch, rates);
        const params = this.#slots.map(({ param }) => param);
        for (const average of following) moveAverages(average, params);
      }),
    );
  }

  /** Drops the gradients, so that the next backward writes instead of adds. */
  zeroGrad(): void {
    for (const { param } of this.#slots) param.grad = null;
  }

  /** `exp_avg.<name>`, `exp_avg_sq.<name>` for each parameter and `step` (float32, []); live tensors. */
  stateDict(): Map<string, Tensor> {
    const dict = new Map<string, Tensor>();
    for (const { name, expAvg } of this.#slots) dict.set(`exp_avg.${name}`, expAvg);
    for (const { name, expAvgSq } of this.#slots) dict.set(`exp_avg_sq.${name}`, expAvgSq);
    return dict.set('step', this.#step);
  }

  /**
   * Copies a state made by {@link stateDict}; settings such as the learning rate stay as constructed.
   *
   * @throws StateDictError if names or shapes do not fit, or `step` is not a count; nothing is changed then.
   */
  loadStateDict(dict: ReadonlyMap<string, Tensor>): void {
    const own = this.stateDict();
    const report = checkStateDict(this.constructor.name, own, dict, { strict: true });
    const step = dict.get('step')!.item();
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new StateDictError(`the state of ${this.constructor.name} has step ${step}, not a count`, report);
    }
    noGrad(() =>
      scope(() => {
        for (const [name, tensor] of own) tensor.copy_(dict.get(name)!);
      }),
    );
    this.#stepCount = step;
  }

  /** Frees the moments; the parameters stay. */
  dispose(): void {
    for (const tensor of this.stateDict().values()) tensor.dispose();
  }

  #batches(): Iterable<Batch> {
    const batches = new Map<string, Batch>();
    for (const { param, expAvg, expAvgSq } of this.#slots) {
      const grad = param.grad;
      if (grad === null) continue;
      const key = `${param.device} ${param.dtype}`;
      const batch = batches.get(key) ?? { params: [], grads: [], expAvgs: [], expAvgSqs: [] };
      batches.set(key, batch);
      batch.params.push(param);
      batch.grads.push(grad);
      batch.expAvgs.push(expAvg);
      batch.expAvgSqs.push(expAvgSq);
    }
    return batches.values();
  }

  #update(batch: Batch, rates: Rates): void {
    if (this.path === 'fused') this.#updateFused(batch, rates.lr);
    else if (this.path === 'foreach') this.#updateForeach(batch, rates);
    else this.#updatePlain(batch, rates);
  }

  #updateOnCpu(lr: number, following: readonly FollowingAverage[]): void {
    const lists = {
      params: this.#slots.map(({ param }) => param),
      means: this.#slots.map(({ expAvg }) => expAvg),
      squares: this.#slots.map(({ expAvgSq }) => expAvgSq),
      averages: following.flatMap(({ averages }) => averages),
    };
    const shares = following.map(({ beta }) => 1 - beta);
    ops.adamUpdate_(lists, shares, {
      step: this.#stepCount,
      lr,
      betas: [this.#beta1, this.#beta2],
      eps: this.#eps,
      weightDecay: this.#weightDecay,
      decoupled: this.#decoupled,
    });
  }

  #updateFused({ params, grads, expAvgs, expAvgSqs }: Batch, lr: number): void {
    const fused = this.#decoupled ? ops._fusedAdamw_ : ops._fusedAdam_;
    const steps = params.map(() => this.#step);
    // The kernel walks the memory of all four side by side.
    params.forEach((param, i) => {
      grads[i] = likeLaidOut(grads[i], param);
      for (const moments of [expAvgs, expAvgSqs]) {
        const laidOut = likeLaidOut(moments[i], param);
        if (laidOut !== moments[i]) moments[i].setData(laidOut);
      }
    });
    fused(params, grads, expAvgs, expAvgSqs, [], steps, {
      lr,
      beta1: this.#beta1,
      beta2: this.#beta2,
      weightDecay: this.#weightDecay,
      eps: this.#eps,
      amsgrad: false,
      maximize: false,
    });
  }

  #updateForeach(batch: Batch, { lr, stepSize, sqrtCorrection2 }: Rates): void {
    const { params, expAvgs, expAvgSqs } = batch;
    let { grads } = batch;
    if (this.#weightDecay !== 0) {
      if (this.#decoupled) ops._foreachMul_(params, 1 - lr * this.#weightDecay);
      else grads = ops._foreachAdd(grads, params, { alpha: this.#weightDecay });
    }
    ops._foreachMul_(expAvgs, this.#beta1);
    ops._foreachAdd_(expAvgs, grads, { alpha: 1 - this.#beta1 });
    ops._foreachMul_(expAvgSqs, this.#beta2);
    ops._foreachAddcmul_(expAvgSqs, grads, grads, 1 - this.#beta2);
    const denominators = ops._foreachSqrt(expAvgSqs);
    ops._foreachDiv_(denominators, sqrtCorrection2);
    ops._foreachAdd_(denominators, this.#eps);
    ops._foreachAddcdiv_(params, expAvgs, denominators, -stepSize);
  }

  #updatePlain({ params, grads, expAvgs, expAvgSqs }: Batch, { lr, stepSize, sqrtCorrection2 }: Rates): void {
    params.forEach((param, i) => {
      // A scope of its own: temporaries of one parameter at a time.
      scope(() => {
        const [expAvg, expAvgSq] = [expAvgs[i], expAvgSqs[i]];
        let grad = grads[i];
        if (this.#weightDecay !== 0) {
          if (this.#decoupled) param.mul_(1 - lr * this.#weightDecay);
          else grad = grad.add(param, { alpha: this.#weightDecay });
        }
        expAvg.lerp_(grad, 1 - this.#beta1);
        expAvgSq.mul_(this.#beta2).addcmul_(grad, grad, { value: 1 - this.#beta2 });
        const denominator = expAvgSq.sqrt().div_(sqrtCorrection2).add_(this.#eps);
        param.addcdiv_(expAvg, denominator, { value: -stepSize });
      });
    });
  }
}

/** Adam: `θ ← θ − lr · m̂ / (√v̂ + eps)` (Kingma & Ba, algorithm 1); weight decay, if any, as an L2 penalty. */
export class Adam extends AdamBase {
  constructor(params: Iterable<readonly [string, Tensor]>, options: AdamOptions = {}) {
    super(params, options, { decoupled: false, weightDecay: 0 });
  }
}

/** AdamW: Adam whose weight decay shrinks the weights directly (Loshchilov & Hutter, algorithm 2). */
export class AdamW extends AdamBase {
  constructor(params: Iterable<readonly [string, Tensor]>, options: AdamOptions = {}) {
    super(params, options, { decoupled: true, weightDecay: 0.01 });
  }
}

/**
 * Moves averages towards tensors of the same shapes.
 * @example
 * ```ts
 * const [averages, params] = [[torch.zeros([2])], [torch.ones([2])]];
 * torch.moveAverages({ averages, beta: 0.9 }, params); // averages: [0.1, 0.1]
 * ```
 */
export function moveAverages({ averages, beta }: FollowingAverage, params: readonly Tensor[]): void {
  noGrad(() => {
    if (hasOp('_foreach_lerp_')) ops._foreachLerp_([...averages], [...params], 1 - beta);
    else for (const [i, average] of averages.entries()) average.lerp_(params[i], 1 - beta);
  });
}

/** Does our kernel take it? */
export function isPlain({ device, dtype }: Tensor): boolean {
  return device === 'cpu' && dtype === 'float32';
}

/** `tensor` with the strides of `param`: itself, or a copy. */
function likeLaidOut(tensor: Tensor, param: Tensor): Tensor {
  const wanted = param.strides;
  if (tensor.strides.every((stride, i) => stride === wanted[i])) return tensor;
  return ops.emptyLike(param, { dtype: tensor.dtype }).copy_(tensor);
}

/** Fused where there is a kernel for all parameters; else by device. */
function quickestPath(slots: readonly Slot[], decoupled: boolean): AdamPath {
  if (slots.every(({ param }) => isPlain(param))) return 'fused';
  const devices = [...new Set(slots.map(({ param }) => param.device.replace(/:.*/, '')))];
  if (devices.every((device) => hasOp(decoupled ? '_fused_adamw_' : '_fused_adam_', device))) return 'fused';
  return devices.every((device) => device === 'cpu') ? 'plain' : 'foreach';
}

function checked(name: string, value: number, ok: boolean, expected: string): number {
  if (!ok || !Number.isFinite(value))
    throw new RangeError(`optimizer: ${name} is ${value}; it must be ${expected}`);
  return value;
}
