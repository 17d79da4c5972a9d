/** The published mix of patch sizes, and the ratios that stand for a whole comparison. */
import type { PatchSize } from 'patch-diffusion/method';
import { median, type Spread, spread } from './timing.js';

/** Seconds of a step at each patch size: one entry per size. */
export type SecondsPerSize = readonly number[];

/** Images per second over the mix: Σ p·n ÷ Σ p·t, where a step of a size has n = batch · multiplier images. */
export function mixRate(
  sizes: readonly Pick<PatchSize, 'probability' | 'multiplier'>[],
  batch: number,
  seconds: SecondsPerSize,
): number {
  const images = sizes.reduce(
    (sum, { probability, multiplier }) => sum + probability * batch * multiplier,
    0,
  );
  const time = sizes.reduce((sum, { probability }, i) => sum + probability * seconds[i], 0);
  return images / time;
}

/** Rates of ours over those of a peer, repeat by repeat: neighbours in time see the same machine. Above 1: ours is quicker. */
function ratio(ours: readonly number[], peer: readonly number[]): Spread {
  if (ours.length !== peer.length || ours.length === 0)
    throw new Error(`internal: ${ours.length} repeats of ours and ${peer.length} of the peer`);
  return spread(ours.map((rate, i) => rate / peer[i]));
}

/** Part that a side plays in the comparison. */
export type Role = 'ours' | 'ours-fp32' | 'official' | 'candidate';

/** Rates of one side over the mix, one entry per repeat. */
export interface SideRates {
  readonly name: string;
  readonly role: Role;
  readonly rates: readonly number[];
}

/** Each above 1 where ours is quicker. */
export interface Ratios<T = number> {
  /** Our precision (the default one, unless `--precision` says otherwise) over eager float32 contiguous PyTorch. */
  readonly officialSettings: T;
  /** The same over the best settings of PyTorch. */
  readonly bestPyTorch: T;
  /** Our float32 over eager float32 contiguous PyTorch. */
  readonly fp32: T;
}

/** PyTorch's quickest side; null where there is none. */
export function bestPeer(sides: readonly SideRates[]): SideRates | null {
  const peers = sides.filter(({ role }) => role === 'official' || role === 'candidate');
  return peers.reduce<SideRates | null>(
    (best, side) => (best && median(best.rates) >= median(side.rates) ? best : side),
    null,
  );
}

/** Null where no peer took part. Where ours is float32 by itself, it has no `ours-fp32` side. */
export function ratiosOf(sides: readonly SideRates[]): Ratios<Spread> | null {
  const find = (role: Role): SideRates | undefined => sides.find((side) => side.role === role);
  const [ours, official, best] = [find('ours'), find('official'), bestPeer(sides)];
  if (!ours || !official || !best) return null;
  const float32 = find('ours-fp32') ?? ours;
  return {
    officialSettings: ratio(ours.rates, official.rates),
    bestPyTorch: ratio(ours.rates, best.rates),
    fp32: ratio(float32.rates, official.rates),
  };
}
