/**
 * Noise-level arithmetic shared by preconditioners and samplers (Karras et al. 2022, table 1 and appendix C).
 * Plain numbers in float64, without Node or native imports, so that a browser can use it.
 */

/** Standard deviation of the data that EDM assumes where nothing else is said: that of images in [−1, 1]. */
export const DEFAULT_SIGMA_DATA = 0.5;

/** Where EDM trains: ln σ ~ N(pMean, pStd²). */
export const EDM_NOISE = { pMean: -1.2, pStd: 1.2 } as const;

/** The usual constants of the variance-preserving process; M is the number of its time steps. */
export const VP = { betaD: 19.9, betaMin: 0.1, epsilonT: 1e-5, M: 1000 } as const;

/** The usual range of the variance-exploding process. */
export const VE = { sigmaMin: 0.02, sigmaMax: 100 } as const;

/** The usual constants of iDDPM's noise levels. */
export const IDDPM = { C1: 0.001, C2: 0.008, M: 1000 } as const;

/**
 * σ(t) of the variance-preserving process with the given rates.
 * @example
 * ```ts
 * const sigma = vpSigma(19.9, 0.1);
 * console.log(sigma(1)); // the largest noise level, about 152
 * ```
 */
export function vpSigma(betaD: number, betaMin: number): (t: number) => number {
  return (t) => Math.sqrt(Math.exp(0.5 * betaD * t ** 2 + betaMin * t) - 1);
}

/**
 * The inverse of {@link vpSigma}.
 * @example
 * ```ts
 * const t = vpSigmaInverse(19.9, 0.1)(1); // the time at which σ is 1
 * ```
 */
export function vpSigmaInverse(betaD: number, betaMin: number): (sigma: number) => number {
  return (sigma) => (Math.sqrt(betaMin ** 2 + 2 * betaD * Math.log(sigma ** 2 + 1)) - betaMin) / betaD;
}

/**
 * ᾱ of iDDPM step j of M (Nichol & Dhariwal 2021, cosine schedule), in float32 as the reference evaluates it: constants are
 * rounded to float32, too, before they meet a tensor.
 */
export function iddpmAlphaBar(j: number, M: number, C2: number): number {
  const { fround } = Math;
  const angle = fround(fround(fround(fround(0.5 * Math.PI) * j) / M) / fround(C2 + 1));
  return fround(fround(Math.sin(angle)) ** 2);
}

/**
 * iDDPM's noise levels u[0 … M], descending to u[M] = 0. The recurrence is ill-conditioned for small levels, so the
 * precision is the caller's choice.
 * @param round rounds each intermediate result: `Math.fround` for the preconditioner's table, identity for the sampler's
 * @example
 * ```ts
 * const u = iddpmSigmas(1000, 0.001, 0.008, Math.fround); // u[0] > … > u[1000] = 0
 * ```
 */
export function iddpmSigmas(M: number, C1: number, C2: number, round: (x: number) => number): Float64Array {
  const u = new Float64Array(M + 1);
  for (let j = M; j > 0; j--) {
    const ratio = Math.fround(iddpmAlphaBar(j - 1, M, C2) / iddpmAlphaBar(j, M, C2));
    const bounded = Math.max(ratio, Math.fround(C1));
    u[j - 1] = round(Math.sqrt(round(round(round(round(u[j] ** 2) + 1) / bounded) - 1)));
  }
  return u;
}

/**
 * Index of the noise level nearest to σ. The distance is −2σu + σ² + u² in float32, as in the reference: between two
 * levels its rounding decides which one is nearest, so another formula would not always choose the same.
 * @param levels float32
 * @example
 * ```ts
 * nearestLevel([10, 5, 1, 0], 4); // 1
 * ```
 */
export function nearestLevel(levels: ArrayLike<number>, sigma: number): number {
  const { fround } = Math;
  const s = fround(sigma);
  let [nearest, least] = [0, Number.POSITIVE_INFINITY];
  for (let i = 0; i < levels.length; i++) {
    const u = levels[i];
    const cross = fround(fround(-2 * s) * u);
    const distance = Math.max(0, fround(fround(cross + fround(s * s)) + fround(u * u)));
    if (distance < least) [nearest, least] = [i, distance];
  }
  return nearest;
}
