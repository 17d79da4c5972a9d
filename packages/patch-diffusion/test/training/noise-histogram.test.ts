/** Losses by noise level: what is kept of them. */
import { describe, expect, it } from 'vitest';
import { LEVEL_BINS, NoiseHistogram } from '../../src/training/noise-histogram.js';
import { gaussianErrors as gaussian, levelSums as levels } from '../helpers/level-losses.js';

const patch = { height: 8, width: 8 };

describe('a histogram', () => {
  it('waits for enough patches of a size', () => {
    const histogram = new NoiseHistogram();
    expect(histogram.losses(patch)).toBeNull();
    histogram.add([{ patch, levels: levels(3) }]);
    expect(histogram.losses(patch)).toBeNull();
    histogram.add([{ patch, levels: levels(3) }]);
    expect(histogram.losses({ height: 16, width: 16 })).toBeNull();
    const { sums, counts } = histogram.losses(patch)!;
    expect(sums[20] / counts[20]).toBeCloseTo(gaussian[20], 10);
  });

  it('forgets, and is the same after its state was restored', () => {
    const histogram = new NoiseHistogram();
    histogram.add([{ patch, levels: levels(1000) }]);
    for (let k = 0; k < 8000; k++)
      histogram.add([{ patch, levels: levels(1).map((v, i) => (i < LEVEL_BINS.count ? 3 * v : v)) }]);
    const { sums, counts } = histogram.losses(patch)!;
    expect(sums[20] / counts[20] / gaussian[20]).toBeCloseTo(3, 1);
    const copy = new NoiseHistogram();
    copy.state = JSON.parse(JSON.stringify(histogram.state));
    expect(copy.losses(patch)).toEqual(histogram.losses(patch));
  });
});
