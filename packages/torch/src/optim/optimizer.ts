/** What training loops ask of an optimiser. */
import type { Tensor } from '../tensor.js';

/** A moving average that follows the parameters: average ← beta · average + (1 − beta) · parameter. */
export interface FollowingAverage {
  /** One tensor for each parameter, in the optimiser's order. */
  readonly averages: readonly Tensor[];
  /** 0 … 1. */
  readonly beta: number;
}

export interface Optimizer {
  /** Number of steps taken, those before a loaded state included. */
  readonly stepCount: number;
  /** Updates all parameters that have a gradient; then the averages follow them. */
  step(lr?: number, following?: readonly FollowingAverage[]): void;
  /** Drops the gradients. */
  zeroGrad(): void;
  /** Everything that later steps depend on, but settings; live tensors. */
  stateDict(): Map<string, Tensor>;
  /** Copies a state made by {@link stateDict}. @throws StateDictError if names or shapes do not fit */
  loadStateDict(dict: ReadonlyMap<string, Tensor>): void;
  /** Frees the state; the parameters stay. */
  dispose(): void;
}
