/**
 * Immiscible noise (Li et al. 2025, arXiv 2505.18521, noise selection), in a form that suits patches: of K candidates each image
 * gets the noise that lies furthest in its direction, argmax ⟨ε, û⟩ with û = y / ‖y‖. Published is the nearest one,
 * argmin ‖y − ε‖, which also prefers short noise, and the more so the smaller the image. The choice is made on the
 * *whole* image; a patch is trained with the patch of that noise, so that all patch sizes are coupled alike.
 *
 * Nothing of the size of a whole image is drawn. Along û the candidates are K normal numbers, and what is orthogonal to û
 * does not depend on the choice. So the first candidate only has to be moved along û, by max − ⟨ε, û⟩; and of its
 * part outside of the patch only the projection matters, one normal number.
 */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { RandomSource } from '../common/random-source.js';

/** How many candidates there are, and what draws them. */
export interface Candidates {
  /** K, at least 1; with 1 there is nothing to choose. */
  readonly count: number;
  /** A stream of its own: other draws are the same with and without candidates. */
  readonly random: RandomSource;
}

/** Keeps the direction of an image of zeros finite. */
const TINY = 1e-12;

/**
 * The patches of the chosen noise.
 * @param noise the patches of the first candidate, standard normal, [N, C, P, P]
 * @param y clean patches as the network is to see them, [N, C, P, P]
 * @param energyOutside sum of squares of each image outside of its patch, [N]; null where patches are whole images
 * @returns [N, C, P, P]
 */
export function immiscibleNoise(
  noise: Tensor,
  y: Tensor,
  energyOutside: Tensor | null | undefined,
  { count, random }: Candidates,
): Tensor {
  if (count === 1) return noise;
  return torch.scope(() => {
    const perImage = (t: Tensor) => t.reshape([-1, 1, 1, 1]);
    const draws = random.randn('candidates', [y.shape[0], count]);
    const others = draws.narrow(1, 1, count - 1).amax(1); // [N]
    const inside = y.square().sum([1, 2, 3]);
    const norm = (energyOutside ? inside.add(energyOutside) : inside).sqrt().clampMin(TINY); // ‖y‖ of the image, [N]
    const within = noise.mul(y).sum([1, 2, 3]);
    const projection = energyOutside ? within.add(energyOutside.sqrt().mul(draws.select(1, 0))) : within;
    const move = others.sub(projection.div(norm)).clampMin(0).div(norm);
    return noise.add(y.mul(perImage(move)));
  });
}
