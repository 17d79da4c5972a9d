/**
 * What a call from JavaScript costs beyond libtorch's own time. The list operators (`_foreach_add_`) run the very
 * same single-tensor operator in a C++ loop, so their time per tensor, less the time in which the binding turns
 * JavaScript's list into libtorch's, is libtorch's share; the rest is the binding.
 */

import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

export interface CallCost {
  readonly operator: string;
  /** Microseconds per call from JavaScript, in all. */
  readonly callUs: number;
  /** Microseconds that libtorch itself takes: a list operator's, per tensor, without the conversion of its lists. */
  readonly libtorchUs: number;
  readonly beyondUs: number;
}

const CALLS = 1000;

/**
 * Time of a call that makes a tensor: libtorch's work, a handle, and freeing it with its scope. Its share of
 * libtorch cannot be told apart, since a list operator's results are handles, too.
 */
export function measureNewTensorUs(rounds: number): number {
  return torch.noGrad(() =>
    torch.scope(() => {
      const [x, y] = [torch.zeros([1]), torch.ones([1])];
      const times = Array.from({ length: rounds }, () => {
        const start = performance.now();
        torch.scope(() => {
          for (let i = 0; i < CALLS; i++) x.add(y);
        });
        return ((performance.now() - start) * 1000) / CALLS;
      });
      return Math.min(...times);
    }),
  );
}

/** Measures calls on one-element CPU tensors, in place: both sides then do exactly the same work in libtorch. */
export function measureOperatorCalls(rounds: number): CallCost[] {
  return torch.noGrad(() =>
    torch.scope(() => {
      const a = Array.from({ length: CALLS }, () => torch.zeros([1]));
      const b = Array.from({ length: CALLS }, () => torch.ones([1]));
      const each = (fn: (x: Tensor, y: Tensor) => Tensor) => () => {
        for (let i = 0; i < CALLS; i++) fn(a[i], b[i]);
      };
      const conversionUs = measureConversionUs(a, b);
      return [
        cost(
          'add_(tensor)',
          each((x, y) => x.add_(y)),
          () => torch._foreachAdd_(a, b),
          2,
          conversionUs,
        ),
        cost(
          'mul_(number)',
          each((x) => x.mul_(0.5)),
          () => torch._foreachMul_(a, 0.5),
          1,
          conversionUs,
        ),
        cost(
          'addcmul_(tensor, tensor)',
          each((x, y) => x.addcmul_(y, y)),
          () => torch._foreachAddcmul_(a, b, b),
          3,
          conversionUs,
        ),
      ];
    }),
  );

  /**
   * Microseconds per tensor of a list's way into libtorch. Lists of different lengths are converted and then refused,
   * before anything is added; what a refusal itself costs shows with short lists. (What libtorch does up to its check
   * counts as conversion, so the binding's share comes out too large rather than too small.)
   */
  function measureConversionUs(a: Tensor[], b: Tensor[]): number {
    const refused = (self: Tensor[], other: Tensor[]) => () => {
      try {
        torch._foreachAdd_(self, other);
      } catch {
        return;
      }
      throw new Error('internal: lists of different lengths were added');
    };
    const short = 10;
    const long = refused(a, b.slice(1));
    const refusal = refused(a.slice(0, short), b.slice(1, short));
    const [whole, fixed] = best(long, refusal);
    return (whole - fixed) / (2 * (a.length - short));
  }

  /** Microseconds of `fn`. */
  function microseconds(fn: () => void): number {
    const start = performance.now();
    torch.scope(fn);
    return (performance.now() - start) * 1000;
  }

  /** Best of the rounds, in turn: what else the machine does can only add. */
  function best(calls: () => void, list: () => void): [number, number] {
    const times = Array.from({ length: rounds }, () => [microseconds(calls), microseconds(list)] as const);
    return [Math.min(...times.map(([call]) => call)), Math.min(...times.map(([, own]) => own))];
  }

  /** `lists`: how many lists the list operator takes. */
  function cost(
    operator: string,
    calls: () => void,
    list: () => void,
    lists: number,
    conversionUs: number,
  ): CallCost {
    const [callUs, listUs] = best(calls, list).map((us) => us / CALLS) as [number, number];
    const libtorchUs = listUs - lists * conversionUs;
    return { operator, callUs, libtorchUs, beyondUs: callUs - libtorchUs };
  }
}
