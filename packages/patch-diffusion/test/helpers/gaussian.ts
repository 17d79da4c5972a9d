/** A denoising problem with known answers: data ~ N(0, s²), for which D(x; σ) = x·s² / (s² + σ²). */
import {
  float64Math,
  runStep,
  type Sampler,
  type SigmaRange,
  type SolverState,
} from '../../src/diffusion/samplers/array-math.js';

export const DATA_STD = 0.5;

/** A denoiser without limits. */
export const anyNoise: SigmaRange = {
  sigmaMin: 0,
  sigmaMax: Number.POSITIVE_INFINITY,
  roundSigma: (sigma) => sigma,
};

/** Runs the first `steps` steps of a sampling of the Gaussian, all by default. */
export function sampleGaussian(
  sampler: Sampler,
  latents: Float64Array,
  drawNoise: () => Float64Array | null = () => null,
  steps = sampler.sigmas.length,
): Float64Array {
  let state: SolverState<Float64Array> = { x: latents.map((z) => z * sampler.initialScale) };
  for (let i = 0; i < steps; i++) {
    state = runStep(sampler.step(float64Math, i, state, drawNoise()), ({ x, sigma }) =>
      x.map((value) => (value * DATA_STD ** 2) / (DATA_STD ** 2 + sigma ** 2)),
    );
  }
  return state.x;
}

/** The exact solution of the probability-flow ODE at noise level σ. */
export function exactFlow(latent: number, sigmaStart: number, sigma: number): number {
  return latent * sigmaStart * Math.sqrt((DATA_STD ** 2 + sigma ** 2) / (DATA_STD ** 2 + sigmaStart ** 2));
}

/** Standard normal draws from a small seeded generator (mulberry32 and Box–Muller). */
export function gaussianDraws(seed: number): (count: number) => Float64Array {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return (count) => Float64Array.from({ length: count }, normal);
}
