/**
 * The little arithmetic that samplers need of arrays. libtorch tensors stand behind it in Node, typed arrays in a
 * browser; the same reference vectors test both.
 */
export interface ArrayMath<T> {
  /** Σ cᵢ·xᵢ over arrays of one shape. */
  combine(...terms: readonly (readonly [coefficient: number, array: T])[]): T;
}

/** What a sampler asks of the denoiser: D(x; sigma). */
export interface Query<T> {
  readonly x: T;
  readonly sigma: number;
}

/** What goes from one solver step to the next. */
export interface SolverState<T> {
  /** The noisy images. */
  readonly x: T;
  /** The last denoised estimate, where the solver looks back at it. */
  readonly denoised?: T;
}

/** One solver step, written as a coroutine: it yields queries, gets the denoised estimates, returns the next state. */
export type SolverStep<T> = Generator<Query<T>, SolverState<T>, T>;

/** A sampling whose steps are fixed. It begins with standard normal latents times `initialScale`. */
export interface Sampler {
  /** Noise levels that the steps start from, before rounding to those of the denoiser, descending. */
  readonly sigmas: Float64Array;
  /** Times t_0 > … > t_n = 0 in the sampler's own schedule; there are n steps. */
  readonly times: Float64Array;
  readonly initialScale: number;
  /** Whether the steps want fresh noise. If so, every step does, which keeps random streams aligned. */
  readonly needsNoise: boolean;
  /**
   * Step i, from times[i] to times[i + 1].
   * @param noise standard normal draws shaped like x, or null where `needsNoise` is false
   */
  step<T>(math: ArrayMath<T>, i: number, state: SolverState<T>, noise: T | null): SolverStep<T>;
}

/** The noise levels that a denoiser can handle. */
export interface SigmaRange {
  readonly sigmaMin: number;
  readonly sigmaMax: number;
  /** The nearest noise level that the denoiser was trained on. */
  roundSigma(sigma: number): number;
}

/**
 * Runs a step with a denoiser that answers at once.
 * @example
 * ```ts
 * // Data that is 0.3 everywhere: the denoised estimate is known.
 * const plan = planSampler({ numSteps: 8 }, { sigmaMin: 0, sigmaMax: 80, roundSigma: (sigma) => sigma });
 * let state: SolverState<Float64Array> = { x: Float64Array.of(1, -1).map((z) => z * plan.initialScale) };
 * for (let i = 0; i < plan.sigmas.length; i++) {
 *   state = runStep(plan.step(float64Math, i, state, null), ({ x }) => x.map(() => 0.3));
 * }
 * console.log(state.x); // 0.3, 0.3
 * ```
 */
export function runStep<T>(step: SolverStep<T>, denoise: (query: Query<T>) => T): SolverState<T> {
  let next = step.next();
  while (!next.done) next = step.next(denoise(next.value));
  return next.value;
}

/**
 * {@link runStep} with a denoiser that takes its time.
 * @example
 * ```ts
 * const plan = planSampler({ numSteps: 8 }, { sigmaMin: 0, sigmaMax: 80, roundSigma: (sigma) => sigma });
 * const start = { x: Float64Array.of(plan.initialScale) };
 * const next = await runStepAsync(plan.step(float64Math, 0, start, null), async ({ x }) => x.map(() => 0.3));
 * ```
 */
export async function runStepAsync<T>(
  step: SolverStep<T>,
  denoise: (query: Query<T>) => Promise<T>,
): Promise<SolverState<T>> {
  let next = step.next();
  while (!next.done) next = step.next(await denoise(next.value));
  return next.value;
}

/** Float64 arithmetic on typed arrays. */
export const float64Math: ArrayMath<Float64Array> = {
  combine(...terms) {
    const out = new Float64Array(terms[0][1].length);
    for (const [coefficient, array] of terms) {
      for (let i = 0; i < out.length; i++) out[i] += coefficient * array[i];
    }
    return out;
  },
};
