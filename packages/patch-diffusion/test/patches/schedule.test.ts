import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  annealedShare,
  customPatchSizes,
  defaultPatchSizes,
  drawPatchSize,
  meanMultiplier,
  type PatchSchedule,
  planUpdate,
  progressivePatchSize,
} from '../../src/patches/schedule.js';

const image = { height: 64, width: 64 };
const realP = fc.double({ min: 0, max: 1, noNaN: true });

describe('patch sizes', () => {
  it('are those of the paper', () => {
    const sizes = defaultPatchSizes(image, 0.5, 8);
    expect(sizes.map(({ height }) => height)).toEqual([16, 32, 64]);
    expect(sizes.map(({ multiplier }) => multiplier)).toEqual([4, 2, 1]);
    for (const [i, p] of [0.2, 0.3, 0.5].entries()) expect(sizes[i].probability).toBeCloseTo(p, 12);
    expect(meanMultiplier(sizes)).toBeCloseTo(1.9, 12);
    expect(defaultPatchSizes({ height: 32, width: 32 }, 0.5, 8, true).map(({ height }) => height)).toEqual([
      16, 32,
    ]);
  });

  it('fit the network and sum to 1 for every image shape', () => {
    const side = fc.integer({ min: 1, max: 20 });
    fc.assert(
      fc.property(side, side, fc.constantFrom(1, 2, 4, 8), realP, (h, w, factor, p) => {
        const shape = { height: h * factor, width: w * factor };
        const sizes = defaultPatchSizes(shape, p, factor);
        for (const { height, width } of sizes) {
          expect(height % factor).toBe(0);
          expect(width % factor).toBe(0);
          expect(height).toBeLessThanOrEqual(shape.height);
          expect(width).toBeLessThanOrEqual(shape.width);
        }
        expect(sizes.at(-1)).toMatchObject(shape);
        expect(sizes.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 9);
      }),
    );
  });

  it('given by the user, become whole images where they are too large', () => {
    const sizes = customPatchSizes(
      { height: 32, width: 64 },
      new Map([
        [100, 0.5],
        [16, 0.5],
      ]),
    );
    expect(sizes.map(({ height, width, multiplier }) => [height, width, multiplier])).toEqual([
      [16, 16, 4],
      [32, 64, 1],
    ]);
  });
});

describe('schedules', () => {
  const sizes = defaultPatchSizes(image, 0.5, 8);
  const batch = { batch: 32, batchGpu: 16 };

  it('draw sizes with their probabilities', () => {
    expect([0, 0.1999, 0.2001, 0.4999, 0.5001, 0.9999].map((u) => drawPatchSize(sizes, u).height)).toEqual([
      16, 16, 32, 32, 64, 64,
    ]);
  });

  it('progress from small to large', () => {
    expect([0, 0.2, 0.21, 0.5, 0.51, 1].map((f) => progressivePatchSize(sizes, f).height)).toEqual([
      16, 16, 32, 32, 64, 64,
    ]);
    const plan = planUpdate({ name: 'progressive', sizes }, batch, 0.1, Math.random);
    // The actual multiplier counts, as in the reference.
    expect(plan.nimg).toBe(32 * 4);
  });

  it('anneal the share of whole images', () => {
    for (const shape of ['linear', 'cosine'] as const) {
      const annealing = { from: 0.1, to: 0.9, shape };
      const early = { ...annealing, over: 0.5 };
      for (const f of [0, 0.3, 0.5, 1])
        expect(annealedShare(early, f / 2)).toBeCloseTo(annealedShare(annealing, f), 12);
      expect(annealedShare(early, 0.8)).toBeCloseTo(0.9, 12);
      expect([0, 0.5, 1].map((f) => annealedShare(annealing, f))).toEqual(
        [0.1, 0.5, 0.9].map((x) => expect.closeTo(x, 12)),
      );
    }
    const schedule: PatchSchedule = {
      name: 'annealed',
      sizes,
      annealing: { from: 0, to: 1, shape: 'linear' },
    };
    expect(
      planUpdate(schedule, batch, 1, () => 0).microBatches.every(({ patch }) => patch.height === 64),
    ).toBe(true);
    expect(
      planUpdate(schedule, batch, 0, () => 0.999).microBatches.every(({ patch }) => patch.height < 64),
    ).toBe(true);
  });

  it('stratify: every update has all sizes in their proportions', () => {
    const plan = planUpdate({ name: 'stratified', sizes }, batch, 0, () => 0);
    expect(plan.microBatches.map(({ patch, count }) => [patch.height, count])).toEqual([
      [16, 26],
      [32, 19],
      [64, 16],
    ]);
    expect(plan.nimg).toBeCloseTo(32 * 1.9, 9);
  });

  it('stratify: the same patches whatever the size of a micro-batch', () => {
    const patchesOf = (batchGpu: number) => {
      const plan = planUpdate({ name: 'stratified', sizes }, { batch: 16, batchGpu }, 0, () => 0);
      for (const { patch, count } of plan.microBatches) {
        expect(count).toBeLessThanOrEqual(batchGpu * patch.multiplier);
      }
      return sizes.map((size) => {
        const own = plan.microBatches.filter(({ patch }) => patch === size);
        const weights = own.map(({ weight, count }) => weight / count);
        for (const weight of weights) expect(weight).toBeCloseTo(weights[0], 12);
        return own.reduce((sum, { count }) => sum + count, 0);
      });
    };
    for (const batchGpu of [16, 8, 4, 2, 1]) expect(patchesOf(batchGpu)).toEqual([13, 10, 8]);
  });

  it('give each update weights that sum to 1 and as many patches as they say', () => {
    const names = fc.constantFrom('stochastic', 'progressive', 'stratified', 'annealed' as const);
    const unit = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
    fc.assert(
      fc.property(
        names,
        realP,
        unit,
        fc.array(unit, { minLength: 4, maxLength: 4 }),
        (name, p, progress, draws) => {
          const schedule = {
            name,
            sizes: defaultPatchSizes(image, p, 8),
            annealing: { from: p, to: 1 - p, shape: 'cosine' as const },
          } as PatchSchedule;
          let next = 0;
          const plan = planUpdate(schedule, { batch: 32, batchGpu: 8 }, progress, () => draws[next++]);
          expect(plan.microBatches.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 9);
          for (const { count } of plan.microBatches) expect(count).toBeGreaterThan(0);
          expect(plan.nimg).toBeGreaterThan(0);
        },
      ),
    );
  });
});
