/**
 * When and how a denoised estimate is guided, in plain arithmetic (sources: see guidance.ts). Without Node or native
 * imports.
 */
import type { ArrayMath } from './samplers/array-math.js';

export interface GuidanceRule {
  /** g; 1 is none. */
  readonly scale: number;
  /** Guidance only for low < σ ≤ high; the network alone elsewhere. By default always. */
  readonly interval?: readonly [low: number, high: number] | null;
}

/**
 * Whether guidance changes anything at a noise level.
 * @example
 * ```ts
 * isGuided({ scale: 2, interval: [0.3, 3] }, 1); // true
 * ```
 */
export function isGuided({ scale, interval }: GuidanceRule, sigma: number): boolean {
  if (scale === 1) return false;
  return !interval || (sigma > interval[0] && sigma <= interval[1]);
}

/**
 * D_ref + g·(D − D_ref).
 * @example
 * ```ts
 * guide(float64Math, Float64Array.of(0), Float64Array.of(1), 1.5); // 1.5
 * ```
 */
export function guide<T>(math: ArrayMath<T>, reference: T, estimate: T, scale: number): T {
  return math.combine([1, reference], [scale, math.combine([1, estimate], [-1, reference])]);
}
