/**
 * The generalised sampler of EDM's ablations: any combination of noise levels, schedule σ(t), scaling s(t) and solver
 * (Karras et al. 2022, appendix C and algorithm 3). Unlike the reference's it also serves networks with coordinates.
 * Written over {@link ArrayMath}, without Node or native imports.
 */
import { UserError } from '../../common/errors.js';
import { iddpmSigmas, vpSigma, vpSigmaInverse } from '../noise-levels.js';
import type { ArrayMath, Sampler, SigmaRange, SolverState, SolverStep } from './array-math.js';
import { churnFactor, type EdmSamplerOptions, edmNoiseLevels } from './edm.js';

export interface GeneralisedSamplerOptions extends EdmSamplerOptions {
  /** Which noise levels the steps visit. Default `edm`. */
  readonly discretization?: 'vp' | 've' | 'iddpm' | 'edm';
  /** σ(t). Default `linear`: σ = t. */
  readonly schedule?: 'vp' | 've' | 'linear';
  /** s(t). Default `none`: s = 1. */
  readonly scaling?: 'vp' | 'none';
  /** Order of the solver. Default `heun`. */
  readonly solver?: 'euler' | 'heun';
  /** Position of the second evaluation within a step, in (0, 1]. Default 1, which is Heun's method; ½ is the midpoint. */
  readonly alpha?: number;
  /** Smallest time of the VP discretization. Default 1e-3. */
  readonly epsilonS?: number;
  /** Constants of the iDDPM discretization. Defaults 0.001, 0.008 and 1000. */
  readonly C1?: number;
  readonly C2?: number;
  readonly M?: number;
}

/** β_d and β_min of the VP process that EDM's defaults refer to. */
const VP_BETA_D = 19.9;
const VP_BETA_MIN = 0.1;

/** σ(t), s(t) and their derivatives. */
interface Curve {
  readonly sigma: (t: number) => number;
  readonly sigmaDerivative: (t: number) => number;
  readonly sigmaInverse: (sigma: number) => number;
  readonly scale: (t: number) => number;
  readonly scaleDerivative: (t: number) => number;
}

/** Fixes the steps of a sampling. */
export function planGeneralised(options: GeneralisedSamplerOptions, range: SigmaRange): Sampler {
  const { solver = 'heun', alpha = 1, sChurn = 0, sNoise = 1 } = options;
  const { sigmas, curve } = noiseLevelsAndCurve(options, range);
  const { sigma, sigmaInverse, scale } = curve;
  const numSteps = sigmas.length;
  const times = Float64Array.of(...sigmas.map((level) => sigmaInverse(range.roundSigma(level))), 0);

  function* step<T>(math: ArrayMath<T>, i: number, { x }: SolverState<T>, noise: T | null): SolverStep<T> {
    const [tCur, tNext] = [times[i], times[i + 1]];

    // Raise the noise level for a moment.
    const gamma = churnFactor(options, numSteps, sigma(tCur));
    const tHat = sigmaInverse(range.roundSigma(sigma(tCur) + gamma * sigma(tCur)));
    const ratio = scale(tHat) / scale(tCur);
    const added = Math.sqrt(Math.max(sigma(tHat) ** 2 - sigma(tCur) ** 2, 0)) * scale(tHat) * sNoise;
    const xHat = noise ? math.combine([ratio, x], [added, noise]) : math.combine([ratio, x]);

    // First-order step.
    const h = tNext - tHat;
    const denoised = yield { x: math.combine([1 / scale(tHat), xHat]), sigma: sigma(tHat) };
    const d = slope(math, curve, tHat, xHat, denoised);
    if (solver === 'euler' || i === numSteps - 1) return { x: math.combine([1, xHat], [h, d]) };

    // Second-order correction with the slope at t′ = t̂ + αh.
    const tPrime = tHat + alpha * h;
    const xPrime = math.combine([1, xHat], [alpha * h, d]);
    const denoisedPrime = yield { x: math.combine([1 / scale(tPrime), xPrime]), sigma: sigma(tPrime) };
    const dPrime = slope(math, curve, tPrime, xPrime, denoisedPrime);
    const weight = 1 / (2 * alpha);
    return { x: math.combine([1, xHat], [h * (1 - weight), d], [h * weight, dPrime]) };
  }

  return { sigmas, times, initialScale: sigma(times[0]) * scale(times[0]), needsNoise: sChurn > 0, step };
}

/** dx/dt = (σ′/σ + s′/s)·x − (σ′·s/σ)·D (equation 81 of the paper's appendix). */
function slope<T>(math: ArrayMath<T>, curve: Curve, t: number, x: T, denoised: T): T {
  const { sigma, sigmaDerivative, scale, scaleDerivative } = curve;
  const rate = sigmaDerivative(t) / sigma(t);
  return math.combine([rate + scaleDerivative(t) / scale(t), x], [-rate * scale(t), denoised]);
}

function noiseLevelsAndCurve(
  options: GeneralisedSamplerOptions,
  range: SigmaRange,
): { sigmas: Float64Array; curve: Curve } {
  const { discretization = 'edm', schedule = 'linear', scaling = 'none', epsilonS = 1e-3 } = options;
  const [defaultMin, defaultMax] = {
    vp: [vpSigma(VP_BETA_D, VP_BETA_MIN)(epsilonS), vpSigma(VP_BETA_D, VP_BETA_MIN)(1)],
    ve: [0.02, 100],
    iddpm: [0.002, 81],
    edm: [0.002, 80],
  }[discretization];
  const sigmaMin = Math.max(options.sigmaMin ?? defaultMin, range.sigmaMin);
  const sigmaMax = Math.min(options.sigmaMax ?? defaultMax, range.sigmaMax);

  // The rates of the VP process that spans just this range.
  const logVariance = (sigma: number) => Math.log(sigma ** 2 + 1);
  const betaD = (2 * (logVariance(sigmaMin) / epsilonS - logVariance(sigmaMax))) / (epsilonS - 1);
  const betaMin = logVariance(sigmaMax) - 0.5 * betaD;

  const sigmas = noiseLevels(options, { sigmaMin, sigmaMax }, vpSigma(betaD, betaMin));
  const process = {
    vp: {
      sigma: vpSigma(betaD, betaMin),
      sigmaDerivative: (t: number) => {
        const sigma = vpSigma(betaD, betaMin)(t);
        return 0.5 * (betaMin + betaD * t) * (sigma + 1 / sigma);
      },
      sigmaInverse: vpSigmaInverse(betaD, betaMin),
    },
    ve: {
      sigma: Math.sqrt,
      sigmaDerivative: (t: number) => 0.5 / Math.sqrt(t),
      sigmaInverse: (s: number) => s ** 2,
    },
    linear: { sigma: (t: number) => t, sigmaDerivative: () => 1, sigmaInverse: (s: number) => s },
  }[schedule];
  const { sigma, sigmaDerivative } = process;
  const scale = scaling === 'vp' ? (t: number) => 1 / Math.sqrt(1 + sigma(t) ** 2) : () => 1;
  const scaleDerivative =
    scaling === 'vp' ? (t: number) => -sigma(t) * sigmaDerivative(t) * scale(t) ** 3 : () => 0;
  return { sigmas, curve: { ...process, scale, scaleDerivative } };
}

function noiseLevels(
  options: GeneralisedSamplerOptions,
  { sigmaMin, sigmaMax }: { sigmaMin: number; sigmaMax: number },
  impliedVp: (t: number) => number,
): Float64Array {
  const {
    numSteps = 18,
    discretization = 'edm',
    epsilonS = 1e-3,
    C1 = 0.001,
    C2 = 0.008,
    M = 1000,
  } = options;
  const fractions = Float64Array.from({ length: numSteps }, (_, i) =>
    numSteps > 1 ? i / (numSteps - 1) : 0,
  );
  switch (discretization) {
    case 'vp':
      return fractions.map((f) => impliedVp(1 + f * (epsilonS - 1)));
    case 've':
      return fractions.map((f) => Math.sqrt(sigmaMax ** 2 * (sigmaMin ** 2 / sigmaMax ** 2) ** f));
    case 'iddpm': {
      const kept = iddpmSigmas(M, C1, C2, (x) => x).filter((u) => u >= sigmaMin && u <= sigmaMax);
      if (!kept.length)
        throw new UserError(
          'BAD_OPTION',
          `iDDPM has no noise level between ${sigmaMin} and ${sigmaMax}; widen --sigma-min and --sigma-max`,
          { exitCode: 2 },
        );
      return fractions.map((f) => kept[roundHalfEven((kept.length - 1) * f)]);
    }
    case 'edm':
      return edmNoiseLevels({ ...options, sigmaMin, sigmaMax });
  }
}

function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}
