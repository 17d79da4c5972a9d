/**
 * One batch of samples. Steps, noise, coordinates, labels and guidance are those of the Node package, so that a seed gives
 * the same picture as `patch-diffusion generate --noise portable`; the solver's state is float64 as there.
 */
import {
  coordinateGrid,
  drawLabels,
  float64Math,
  guide,
  isGuided,
  labelRows,
  nearestLevel,
  type OnnxDenoiserInfo,
  PortableRandom,
  planSampler,
  type Query,
  runStepAsync,
  type SigmaRange,
  type SolverState,
} from 'patch-diffusion/samplers';
import type { Label } from './options.js';
import type { ResolvedSampling } from './resolve.js';

/** Inputs of the network, as the ONNX file has them. */
export interface DenoiserInputs {
  /** [N, C, H, W] */
  readonly x: Float32Array;
  /** [N] */
  readonly sigma: Float32Array;
  /** [N, 2, H, W] */
  readonly positions: Float32Array | null;
  /** [N, K] */
  readonly classLabels: Float32Array | null;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** D(x; σ), [N, C, H, W]. */
export type Denoise = (inputs: DenoiserInputs) => Promise<Float32Array>;

export interface Batch {
  /** [N, C, H, W], roughly in [−1, 1] */
  readonly samples: Float64Array;
  readonly labels: readonly (Label | null)[];
}

/**
 * @param onStep called after each solver step with what the network takes the samples for; what it throws ends the sampling
 */
export async function sampleBatch(
  info: OnnxDenoiserInfo,
  { sampler: options, labels: known, guidance, window }: ResolvedSampling,
  seeds: readonly number[],
  denoise: Denoise,
  onStep: (step: number, numSteps: number, estimate: Batch) => Promise<void>,
): Promise<Batch> {
  const sampler = planSampler(options, sigmaRange(info));
  const numSteps = sampler.sigmas.length;
  const { height, width } = window;
  const size = info.channels * height * width;
  const streams = seeds.map((seed) => new PortableRandom(seed));
  const stack = (draw: (stream: PortableRandom) => Float32Array) => {
    const values = new Float64Array(seeds.length * size);
    for (const [n, stream] of streams.entries()) values.set(draw(stream), n * size);
    return values;
  };
  const integers = (count: number) => streams.map((stream) => stream.label(count));
  const labels = info.labelDim ? drawLabels(integers, info.labelDim, known) : null;
  const rows = labels && labelRows(labels, info.labelDim);
  const grid = info.hasPositions ? coordinateGrid(window, info.image) : null;

  const estimate = async (x: Float64Array, sigma: number, classLabels: Float32Array | null) => {
    const count = x.length / size;
    const positions = grid && repeat(grid, count);
    const inputs = { x: Float32Array.from(x), sigma: new Float32Array(count).fill(sigma), positions };
    return Float64Array.from(await denoise({ ...inputs, classLabels, count, height, width }));
  };
  const guided = async ({ x, sigma }: Query<Float64Array>) => {
    if (!rows || !guidance || !isGuided(guidance, sigma)) return estimate(x, sigma, rows);
    // Without and with the label, as one batch.
    const classLabels = new Float32Array(2 * rows.length);
    classLabels.set(rows, rows.length);
    const both = await estimate(repeat(x, 2), sigma, classLabels);
    return guide(float64Math, both.subarray(0, x.length), both.subarray(x.length), guidance.scale);
  };

  const batchLabels = labels ?? seeds.map(() => null);
  const estimates: { last: Float64Array } = { last: new Float64Array(seeds.length * size) };
  const start = stack((stream) => stream.startNoise(size));
  let state: SolverState<Float64Array> = { x: start.map((z) => z * sampler.initialScale) };
  for (let i = 0; i < numSteps; i++) {
    const noise = sampler.needsNoise ? stack((stream) => stream.stepNoise(i, size)) : null;
    state = await runStepAsync(sampler.step(float64Math, i, state, noise), async (query) => {
      estimates.last = await guided(query);
      return estimates.last;
    });
    await onStep(i + 1, numSteps, { samples: estimates.last, labels: batchLabels });
  }
  return { samples: state.x, labels: batchLabels };
}

function sigmaRange({ sigmaMin, sigmaMax, noiseLevels }: OnnxDenoiserInfo): SigmaRange {
  return {
    sigmaMin,
    sigmaMax: sigmaMax ?? Number.POSITIVE_INFINITY,
    roundSigma: (sigma) => (noiseLevels ? noiseLevels[nearestLevel(noiseLevels, sigma)] : sigma),
  };
}

function repeat<T extends Float32Array | Float64Array>(values: T, count: number): T {
  const out = new (values.constructor as new (length: number) => T)(values.length * count);
  for (let n = 0; n < count; n++) out.set(values, n * values.length);
  return out;
}
