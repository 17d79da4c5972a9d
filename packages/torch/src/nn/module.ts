/**
 * A tree of named parameters and buffers, as `torch.nn.Module`.
 * Registration is explicit and its order is the state dict's: own parameters, own buffers, then children.
 * Limits: no hooks, no lazy parameters; `forward` is whatever method the subclass defines.
 */
import { noGrad } from '../autograd.js';
import { type Device, type DType, isFloatingPoint, type MemoryFormat } from '../dtype.js';
import { keep, scope } from '../scope.js';
import type { Tensor } from '../tensor.js';
import { checkStateDict, type LoadReport, type LoadStateDictOptions } from './state-dict.js';
import { summaryTable } from './summary.js';

/** Where and how {@link Module.to} puts the tensors. */
export interface ModuleToOptions {
  readonly device?: Device;
  /** Applies to floating-point tensors only. */
  readonly dtype?: DType;
  /** Applies to tensors of four dimensions only. */
  readonly memoryFormat?: MemoryFormat;
}

/** Base class of networks and layers. */
export abstract class Module {
  /** True while training (dropout active, …); set by {@link train} and {@link eval}. */
  training = true;

  readonly #parameters = new Map<string, Tensor>();
  readonly #buffers = new Map<string, Tensor>();
  readonly #children = new Map<string, Module>();

  /** Registers a trainable tensor: it is kept past the enclosing scope and requires a gradient. */
  protected addParameter(name: string, tensor: Tensor): Tensor {
    this.#checkName(name);
    this.#parameters.set(name, keep(tensor).setRequiresGrad(true));
    return tensor;
  }

  /** Registers a tensor that is saved with the parameters but not trained. */
  protected addBuffer(name: string, tensor: Tensor): Tensor {
    this.#checkName(name);
    this.#buffers.set(name, keep(tensor));
    return tensor;
  }

  /** Registers a child; its tensors are named `<name>.<their name>`. */
  protected addModule<M extends Module>(name: string, module: M): M {
    this.#checkName(name);
    this.#children.set(name, module);
    return module;
  }

  #checkName(name: string): void {
    // A dot would make two different trees write the same state dict.
    const problem =
      name === '' || name.includes('.')
        ? 'must not be empty or contain a dot'
        : this.#parameters.has(name) || this.#buffers.has(name) || this.#children.has(name)
          ? 'is registered twice'
          : undefined;
    if (problem)
      throw new Error(`internal: ${this.constructor.name}: the name ${JSON.stringify(name)} ${problem}`);
  }

  /** Direct children, in registration order. */
  *children(): Generator<[string, Module]> {
    yield* this.#children;
  }

  /** This module (under the name of `prefix`) and all below it, parents first. */
  *namedModules(prefix = ''): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.#children) yield* child.namedModules(join(prefix, name));
  }

  /** All parameters with dotted names, in state-dict order. */
  *namedParameters(prefix = ''): Generator<[string, Tensor]> {
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, tensor] of module.#parameters) yield [join(path, name), tensor];
    }
  }

  /** All buffers with dotted names, in state-dict order. */
  *namedBuffers(prefix = ''): Generator<[string, Tensor]> {
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, tensor] of module.#buffers) yield [join(path, name), tensor];
    }
  }

  /** All parameters, in state-dict order. */
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, tensor]) => tensor);
  }

  /** Number of trainable values. */
  numParams(): number {
    return this.parameters().reduce((sum, { numel }) => sum + numel, 0);
  }

  /**
   * Parameters and buffers under PyTorch's names and in its order. The tensors are the live ones, not copies.
   */
  stateDict(prefix = ''): Map<string, Tensor> {
    const dict = new Map<string, Tensor>();
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, tensor] of module.#parameters) dict.set(join(path, name), tensor);
      for (const [name, tensor] of module.#buffers) dict.set(join(path, name), tensor);
    }
    return dict;
  }

  /**
   * Copies values into this module's tensors, converting element type and device.
   *
   * @returns Which names matched, were missing, unexpected, or had another shape.
   * @throws StateDictError in strict mode (the default) if anything does not fit; nothing was copied then.
   */
  loadStateDict(dict: ReadonlyMap<string, Tensor>, options: LoadStateDictOptions = {}): LoadReport {
    const own = this.stateDict();
    const report = checkStateDict(this.constructor.name, own, dict, options);
    noGrad(() =>
      scope(() => {
        for (const name of report.matched) own.get(name)!.copy_(dict.get(`${options.prefix ?? ''}${name}`)!);
      }),
    );
    return report;
  }

  /** Sets training mode here and below. */
  train(on = true): this {
    for (const [, module] of this.namedModules()) module.training = on;
    return this;
  }

  /** Sets evaluation mode here and below. */
  eval(): this {
    return this.train(false);
  }

  /** Turns gradients of all parameters on or off. */
  requiresGrad(on = true): this {
    for (const tensor of this.parameters()) tensor.setRequiresGrad(on);
    return this;
  }

  /** Drops all gradients. */
  zeroGrad(): void {
    for (const tensor of this.parameters()) tensor.grad = null;
  }

  /**
   * Moves or converts all tensors in place: they stay the same objects, so that fields and optimisers that
   * hold them stay right. Gradients are dropped. Move before building an optimiser, whose state stays put.
   */
  to(options: ModuleToOptions): this {
    this.zeroGrad();
    noGrad(() =>
      scope(() => {
        for (const tensor of this.stateDict().values()) {
          tensor.setData(
            tensor.detach().to({
              device: options.device,
              dtype: isFloatingPoint(tensor.dtype) ? options.dtype : undefined,
              memoryFormat: tensor.ndim === 4 ? options.memoryFormat : undefined,
            }),
          );
        }
      }),
    );
    return this;
  }

  /** A table of the tree with parameter and buffer counts; `depth` levels (default 2), deeper ones summed up. */
  summary(depth = 2): string {
    return summaryTable(this, depth);
  }

  /** Frees all tensors here and below; harmless when repeated. */
  dispose(): void {
    for (const tensor of this.stateDict().values()) {
      if (tensor.isDisposed) continue;
      tensor.grad = null;
      tensor.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Children named `0`, `1`, …: `torch.nn.ModuleList`, also for `torch.nn.Sequential`'s names. */
export class ModuleList<M extends Module = Module> extends Module implements Iterable<M> {
  readonly #items: M[] = [];

  constructor(modules: Iterable<M> = []) {
    super();
    for (const module of modules) this.push(module);
  }

  get length(): number {
    return this.#items.length;
  }

  push(module: M): this {
    this.#items.push(this.addModule(String(this.#items.length), module));
    return this;
  }

  /** The child at `index`; negative ones count from the end. */
  at(index: number): M | undefined {
    return this.#items.at(index);
  }

  [Symbol.iterator](): IterableIterator<M> {
    return this.#items[Symbol.iterator]();
  }
}

/** Children under names of their own, iterated in insertion order: `torch.nn.ModuleDict`. */
export class ModuleDict<M extends Module = Module> extends Module implements Iterable<[string, M]> {
  readonly #items = new Map<string, M>();

  constructor(modules: Iterable<readonly [string, M]> = []) {
    super();
    for (const [name, module] of modules) this.set(name, module);
  }

  get size(): number {
    return this.#items.size;
  }

  set(name: string, module: M): this {
    this.#items.set(name, this.addModule(name, module));
    return this;
  }

  get(name: string): M | undefined {
    return this.#items.get(name);
  }

  [Symbol.iterator](): IterableIterator<[string, M]> {
    return this.#items[Symbol.iterator]();
  }
}

function join(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}.${name}`;
}
