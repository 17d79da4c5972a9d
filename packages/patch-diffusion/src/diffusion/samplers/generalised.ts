/**
 * The generalised sampler of EDM's ablations: any combination of noise levels, schedule σ(t), scaling s(t) and solver
 * (Karras et al. 2022, appendix C and algorithm 3). Unlike the reference's it also serves networks with coordinates.
 * Written over {@link ArrayMath}, without Node or native imports.
 */
import { UserError } from '../../common/errors.js';
import { IDDPM, iddpmSigmas, VE, VP, vpSigma, vpSigmaInverse } from '../noise-levels.js';
import type { ArrayMath, Sampler, SigmaRange, SolverState, SolverStep } from './array-math.js';
import { churnFactor, EDM_DEFAULTS, type EdmSamplerOptions, edmNoiseLevels } from './edm.js';

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

/** The noise levels that each discretization spans where the options do not say. */
const SIGMA_RANGES = {
  vp: (epsilonS: number) => [vpSigma(VP.betaD, VP.betaMin)(epsilonS), vpSigma(VP.betaD, VP.betaMin)(1)],
  ve: () => [VE.sigmaMin, VE.sigmaMax],
  iddpm: () => [0.002, 81],
  edm: () => [EDM_DEFAULTS.sigmaMin, EDM_DEFAULTS.sigmaMax],
};

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
  const { solver = 'heun', alpha = 1 } = options;
  const { sChurn = EDM_DEFAULTS.sChurn, sNoise = EDM_DEFAULTS.sNoise } = options;
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
  const [defaultMin, defaultMax] = SIGMA_RANGES[discretization](epsilonS);
  const sigmaMin = Math.max(options.sigmaMin ?? defaultMin, range.sigmaMin);
  const sigmaMax = Math.min(options.sigmaMax ?? defaultMax, range.sigmaMax);

  // The rates of the VP process that spans just this range.
  const logVariance = (sigma: number) => Math.log(sigma ** 2 + 1);
  const betaD = (2 * (logVariance(sigmaMin) / epsilonS - logVariance(sigmaMax))) / (epsilonS - 1);
  const betaMin = logVariance(sigmaMax) - 0.5 * betaD;
  const vp = vpSigma(betaD, betaMin);

  const curve = {
    vp: {
      sigma: vp,
      sigmaDerivative: (t: number) => 0.5 * (betaMin + betaD * t) * (vp(t) + 1 / vp(t)),
      sigmaInverse: vpSigmaInverse(betaD, betaMin),
    },
    ve: {
      sigma: Math.sqrt,
      sigmaDerivative: (t: number) => 0.5 / Math.sqrt(t),
      sigmaInverse: (sigma: number) => sigma ** 2,
    },
    linear: {
      sigma: (t: number) => t,
      sigmaDerivative: () => 1,
      sigmaInverse: (sigma: number) => sigma,
    },
  }[schedule];
  const scales = {
    vp: (t: number) => 1 / Math.sqrt(1 + curve.sigma(t) ** 2),
    none: () => 1,
  };
  const scaleDerivatives = {
    vp: (t: number) => -curve.sigma(t) * curve.sigmaDerivative(t) * scales.vp(t) ** 3,
    none: () => 0,
  };
  return {
    sigmas: noiseLevels({ ...options, sigmaMin, sigmaMax }, vp),
    curve: { ...curve, scale: scales[scaling], scaleDerivative: scaleDerivatives[scaling] },
  };
}

function noiseLevels(
  options: GeneralisedSamplerOptions & { readonly sigmaMin: number; readonly sigmaMax: number },
  vp: (t: number) => number,
): Float64Array {
  const { sigmaMin, sigmaMax, discretization = 'edm', epsilonS = 1e-3 } = options;
  const { numSteps = EDM_DEFAULTS.numSteps, C1 = IDDPM.C1, C2 = IDDPM.C2, M = IDDPM.M } = options;
  const fractions = Float64Array.from({ length: numSteps }, (_, i) => i / Math.max(numSteps - 1, 1));
  switch (discretization) {
    case 'vp':
      return fractions.map((f) => vp(1 + f * (epsilonS - 1)));
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
      return edmNoiseLevels(options);
  }
}

function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}
