/** A tensor matcher with tolerances, for tests: `expect(t).toBeCloseToTensor(expected, { atol: 1e-6 })`. */
import { expect } from 'vitest';
import { Tensor } from '../src/index.js';

interface Tolerance {
  /** Relative to each expected element. Default 1e-5. */
  readonly rtol?: number;
  /** Default 1e-6. */
  readonly atol?: number;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: vitest's own declaration has this parameter.
  interface Matchers<T = any> {
    /** The same shape (of a tensor) and elements within `atol + rtol · |expected|`; NaN equals NaN. */
    toBeCloseToTensor(expected: Tensor | readonly number[], tolerance?: Tolerance): T;
  }
}

expect.extend({
  toBeCloseToTensor(
    actual: Tensor,
    expected: Tensor | readonly number[],
    { rtol = 1e-5, atol = 1e-6 }: Tolerance = {},
  ) {
    const problem = findDifference(actual, expected, rtol, atol);
    return { pass: problem === null, message: () => problem ?? 'the tensors are close' };
  },
});

function findDifference(
  actual: Tensor,
  expected: Tensor | readonly number[],
  rtol: number,
  atol: number,
): string | null {
  if (expected instanceof Tensor && String(actual.shape) !== String(expected.shape)) {
    return `got shape [${actual.shape}], expected [${expected.shape}]`;
  }
  const [got, want] = [actual, expected].map(toNumbers);
  if (got.length !== want.length) return `got ${got.length} elements, expected ${want.length}`;
  const bad = got.findIndex(
    (value, i) =>
      !Object.is(value, want[i]) && !(Math.abs(value - want[i]) <= atol + rtol * Math.abs(want[i])),
  );
  return bad < 0
    ? null
    : `element ${bad}: got ${got[bad]}, expected ${want[bad]} (rtol ${rtol}, atol ${atol})`;
}

function toNumbers(values: Tensor | readonly number[]): number[] {
  return values instanceof Tensor
    ? Array.from(values.detach().to({ dtype: 'float64' }).toTypedArray(), Number)
    : [...values];
}
