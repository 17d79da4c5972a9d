/** The noise of patches is that of a choice among whole noises: compared with one that draws them all. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { partOf } from '../../src/common/random-part.js';
import { TorchRandom } from '../../src/common/random-source.js';
import { immiscibleNoise } from '../../src/diffusion/immiscible.js';
import { addNoise, lossOf } from '../../src/diffusion/losses.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

const source = (seed: number) => new TorchRandom('cpu', new torch.Generator('cpu', seed));
const energy = (t: Tensor) => t.square().sum([1, 2, 3]);

/** Draws per test; a fixed seed each. */
const DRAWS = 6000;
const SHAPE = [2, 4, 5];

/** One image, and a patch of it: rows 1 and 2, columns 2 to 4. */
function imageAndPatch(seed: number, scale: number) {
  const image = source(seed)
    .randn('image', [1, ...SHAPE])
    .mul(scale);
  return { image, patch: cut(image) };
}
const cut = (t: Tensor) => t.narrow(2, 1, 2).narrow(3, 2, 3);

/** The whole noise that is furthest in the direction of the image, of `count` whole noises: the definition. */
function chosen(image: Tensor, count: number, seed: number): Tensor {
  const candidates = source(seed).randn('all', [DRAWS, count, ...SHAPE]);
  const best = candidates.mul(image).sum([2, 3, 4]).argmax(1).reshape([DRAWS, 1, 1, 1, 1]);
  return candidates.gather(1, best.expand([DRAWS, 1, ...SHAPE])).select(1, 0);
}

function noiseOf(y: Tensor, outside: Tensor | null, count: number, seed: number): Tensor {
  const many = y.expand([DRAWS, ...y.shape.slice(1)]);
  const noise = source(seed).randn('noise', many.shape);
  const candidates = { count, random: source(seed + 1) };
  return immiscibleNoise(noise, many, outside?.expand([DRAWS]), candidates);
}

/** Projections on a direction, in ascending order. */
function along(noise: Tensor, direction: Tensor): number[] {
  const unit = direction.div(direction.square().sum().sqrt());
  return [...noise.mul(unit).sum([1, 2, 3]).toFloat32Array()].sort((a, b) => a - b);
}

/** Greatest difference of a sample's distribution from F, in the unit of Kolmogorov's test: 1.95 is exceeded once in 1000. */
function kolmogorov(sorted: readonly number[], F: (x: number) => number): number {
  const n = sorted.length;
  const gaps = sorted.map((x, i) => Math.max((i + 1) / n - F(x), F(x) - i / n));
  return Math.max(...gaps) * Math.sqrt(n);
}

/** The same between two samples of one size. */
function kolmogorovOfTwo(a: readonly number[], b: readonly number[]): number {
  let [i, j, gap] = [0, 0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] < b[j]) i++;
    else j++;
    gap = Math.max(gap, Math.abs(i - j) / a.length);
  }
  return gap * Math.sqrt(a.length / 2);
}

const normal = (x: number) =>
  (1 +
    torch
      .tensor([x * Math.SQRT1_2], { dtype: 'float64' })
      .erf()
      .item()) /
  2;
const maximumOf = (count: number) => (x: number) => normal(x) ** count;
/** Fixed seeds: a bound that one test in 100,000 of the right distribution exceeds. */
const BOUND = 2.5;

const counts = [2, 4, 16];

describe('whole images', () => {
  it.each(counts)('along the image: the greatest of %i normal numbers', (count) => {
    torch.scope(() => {
      const { image } = imageAndPatch(1, 0.5);
      const projections = along(noiseOf(image, null, count, 10), image);
      expect(kolmogorov(projections, maximumOf(count))).toBeLessThan(BOUND);
      // The bound means something.
      expect(kolmogorov(projections, maximumOf(count + 1))).toBeGreaterThan(count < 16 ? 5 : BOUND);
    });
  });

  it.each(counts)('across it: standard normal and independent, with %i candidates', (count) => {
    torch.scope(() => {
      const { image } = imageAndPatch(2, 0.5);
      const noise = noiseOf(image, null, count, 20);
      for (let k = 0; k < 4; k++) {
        const other = source(30 + k).randn('direction', image.shape);
        const across = other.sub(image.mul(other.mul(image).sum().div(energy(image))));
        expect(kolmogorov(along(noise, across), normal)).toBeLessThan(BOUND);
        const unit = (t: Tensor) => t.div(t.square().sum().sqrt());
        const [p, q] = [image, across].map((t) => noise.mul(unit(t)).sum([1, 2, 3]));
        const covariance = p.sub(p.mean()).mul(q).mean().item();
        expect(Math.abs(covariance) * Math.sqrt(DRAWS)).toBeLessThan(4.4);
      }
    });
  });
});

describe('patches', () => {
  it('have the noise of a patch of the chosen whole noise, in every direction', () => {
    const property = fc.property(
      fc.integer({ min: 0, max: 1_000_000 }),
      fc.constantFrom(2, 4, 8),
      fc.constantFrom(0.05, 0.5, 3),
      (seed, count, scale) =>
        torch.scope(() => {
          const { image, patch } = imageAndPatch(seed, scale);
          const outside = energy(image).sub(energy(patch));
          const expected = cut(chosen(image, count, seed + 1));
          const noise = noiseOf(patch, outside, count, seed + 2);
          const random = source(seed + 4).randn('direction', patch.shape);
          for (const direction of [patch, random, patch.add(random.mul(scale))])
            expect(kolmogorovOfTwo(along(noise, direction), along(expected, direction))).toBeLessThan(BOUND);
        }),
    );
    fc.assert(property, { numRuns: 12, seed: 7 });
  });

  it('and the same shift per pixel as the whole image has', () => {
    torch.scope(() => {
      const { image, patch } = imageAndPatch(3, 0.5);
      const outside = energy(image).sub(energy(patch));
      const [whole, part] = [noiseOf(image, null, 4, 40), noiseOf(patch, outside, 4, 50)];
      const shift = (noise: Tensor, y: Tensor) => noise.mean([0]).mul(y).sum().div(y.square().sum()).item();
      // The expected greatest of four is 1.0294.
      const exact = 1.0294 / Math.sqrt(energy(image).item());
      expect(shift(whole, image) / exact).toBeCloseTo(1, 1);
      expect(shift(part, patch) / exact).toBeCloseTo(1, 1);
    });
  });
});

it('with one candidate, and for an image of zeros, the noise stays as it was drawn', () => {
  torch.scope(() => {
    const noise = source(1).randn('noise', [3, ...SHAPE]);
    const y = source(2).randn('y', noise.shape);
    const random = source(3);
    for (const outside of [null, torch.ones([3])]) {
      expect(immiscibleNoise(noise, y, outside, { count: 1, random })).toBe(noise);
      const grey = immiscibleNoise(noise, torch.zeros(noise.shape), outside, { count: 4, random });
      expect(grey.toFloat32Array()).toEqual(noise.toFloat32Array());
    }
  });
});

it('the other draws of a loss do not change, and each image keeps its noise in a part of the batch', () => {
  const denoiser = tinyDenoiser(1);
  const y = source(5).randn('y', [4, 3, 8, 8]).mul(0.5);
  const energyOutside = torch.full([4], 20);
  const positions = torch.zeros([4, 2, 8, 8]);
  const losses = (count: number, part = { begin: 0, end: 4 }) => {
    const [random, other] = [source(6), source(7)];
    const own = (t: Tensor) => t.narrow(0, part.begin, part.end - part.begin);
    const batch = { images: own(y), positions: own(positions), energyOutside: own(energyOutside) };
    const draws = partOf(random, 4, part);
    const candidates = { count, random: partOf(other, 4, part) };
    const noisy = addNoise(batch, draws, { spec: { type: 'edm' }, candidates });
    const loss = lossOf(denoiser, noisy, draws, { type: 'edm' });
    const { sigma } = noisy;
    return { loss: loss.toFloat32Array(), sigma: sigma.toFloat32Array(), next: random.rand('', [1]).item() };
  };
  const [with4, with1] = [losses(4), losses(1)];
  expect(with4.sigma).toEqual(with1.sigma);
  expect(with4.next).toBe(with1.next);
  expect(with4.loss).not.toEqual(with1.loss);
  const part = losses(4, { begin: 2, end: 4 });
  const expected = with4.loss.subarray(2 * 3 * 8 * 8);
  for (const [i, value] of part.loss.entries()) expect(value).toBeCloseTo(expected[i], 4);
  denoiser.dispose();
});
