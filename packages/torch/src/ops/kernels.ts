/**
 * Operators of ours: several of libtorch's in one pass over memory, with a gradient of their own (native/*.cc). They
 * have kernels for float32 and bfloat16 on a CPU; on other devices and types the addon makes them of libtorch's
 * operators. Their gradients cannot be differentiated again where the kernel ran.
 */
import { Tensor } from '../tensor.js';
import { h, hs, op } from './bind.js';

/** Optional parts of {@link groupNormAct}. */
export interface GroupNormActOptions {
  /** Added to the variance. Default 1e-5. */
  readonly eps?: number;
  /** Ends with SiLU. Default false. */
  readonly silu?: boolean;
  /** Added to `x` before it is normalised, [N | 1, C]. */
  readonly add?: Tensor | null;
  /** The normalised values are multiplied by 1 + scale, [N | 1, C]. */
  readonly scale?: Tensor | null;
  /** Added after scaling, [N | 1, C]. */
  readonly shift?: Tensor | null;
}

const $group_norm_act = op(
  'patch_diffusion::group_norm_act',
  '',
  'x groups weight bias eps silu add scale shift',
);
/**
 * Group normalisation with what stands around it in a residual block, per sample and channel:
 * act((norm(x + add) · weight + bias) · (1 + scale) + shift). Parameters may be float32 where `x` is bfloat16.
 *
 * @param x [N, C, …], in any memory order; the result has the same
 * @param groups must divide C
 * @param weight [C]
 * @param bias [C]
 */
export function groupNormAct(
  x: Tensor,
  groups: number,
  weight: Tensor | null,
  bias: Tensor | null,
  options: GroupNormActOptions = {},
): Tensor {
  const { eps = 1e-5, silu = false, add, scale, shift } = options;
  return new Tensor(
    $group_norm_act.f(h(x), groups, h(weight), h(bias), eps, silu, h(add), h(scale), h(shift)),
  );
}

const $dropout = op('patch_diffusion::dropout', '', 'x p');
/**
 * Sets each element to 0 with probability `p` and scales the others by 1 / (1 − p). On a CPU, where random numbers are
 * what dropout costs, four elements share one draw of the default generator.
 *
 * @param x in any memory order; without gaps, the result has the same
 * @param p 0 … 1; on a CPU it is rounded to a multiple of 2⁻¹⁵
 */
export function sharedDrawDropout(x: Tensor, p: number): Tensor {
  return new Tensor($dropout.f(h(x), p));
}

const $sanitise_gradients = op('patch_diffusion::sanitise_gradients', '', 'parameters factor');
/**
 * Multiplies the gradients of `parameters` (those that have one) by `factor`, then replaces NaN by 0 and ±∞ by ±10⁵
 * where there are any.
 *
 * @returns the L2 norm of all gradients together, after multiplying and before replacing
 */
export function sanitiseGradients(parameters: readonly Tensor[], factor = 1): number {
  return $sanitise_gradients.f(hs(parameters), factor) as unknown as number;
}

const $clean_gradients = op('patch_diffusion::clean_gradients', '', 'parameters');
/**
 * {@link sanitiseGradients} that does not wait for the device.
 *
 * @returns the L2 norm of all gradients together before replacing, float32 []
 */
export function cleanGradients(parameters: readonly Tensor[]): Tensor {
  return new Tensor($clean_gradients.f(hs(parameters)));
}

const $adam_update = op(
  'patch_diffusion::adam_update',
  '',
  'params means squares averages follow step lr beta1 beta2 eps weight_decay decoupled',
);
/** Constants of one step of Adam, for {@link adamUpdate_}. */
export interface AdamRates {
  /** Steps, this one included. */
  readonly step: number;
  readonly lr: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
  /** Weight decay as in AdamW. */
  readonly decoupled: boolean;
}
/**
 * One step of Adam over all parameters that have a gradient (float32, on the CPU), then average ← average +
 * follow · (parameter − average) for every parameter and each of at most four averages, in the same pass over memory.
 *
 * @param averages one tensor for each parameter, for each average after the other
 * @param follow one share, 0 … 1, for each average
 */
export function adamUpdate_(
  {
    params,
    means,
    squares,
    averages,
  }: Record<'params' | 'means' | 'squares' | 'averages', readonly Tensor[]>,
  follow: readonly number[],
  { step, lr, betas, eps, weightDecay, decoupled }: AdamRates,
): void {
  const lists = [hs(params), hs(means), hs(squares), hs(averages)];
  $adam_update.f(...lists, [...follow], step, lr, betas[0], betas[1], eps, weightDecay, decoupled);
}

const $muon_update = op('patch_diffusion::muon_update', '', 'params momenta lr beta a b c iterations');
/** Constants of one step of Muon, for {@link muonUpdate_}. */
export interface MuonRates {
  /** A matrix [m, n] is moved by lr · √max(m, n) times an orthogonal one. */
  readonly lr: number;
  readonly momentum: number;
  /** a·X + b·(X·Xᵀ)·X + c·(X·Xᵀ)²·X is one iteration. */
  readonly polynomial: readonly [number, number, number];
  readonly iterations: number;
}
/**
 * One step of Muon for matrices [out, …] (float32, on the CPU, without gaps), each with a gradient.
 *
 * @param momenta one tensor for each parameter
 */
export function muonUpdate_(
  params: readonly Tensor[],
  momenta: readonly Tensor[],
  { lr, momentum, polynomial, iterations }: MuonRates,
): void {
  $muon_update.f(hs(params), hs(momenta), lr, momentum, ...polynomial, iterations);
}
