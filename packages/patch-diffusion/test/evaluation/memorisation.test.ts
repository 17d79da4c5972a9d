import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { memorised, nearestTraining } from '../../src/evaluation/memorisation.js';
import { memoryPixels, waves } from '../helpers/pixels.js';

const side = 16;
const shape = [3, side, side];
const mirror = (image: Uint8Array) => image.map((_, k) => image[k - (k % side) + side - 1 - (k % side)]);
const near = (image: Uint8Array, by: number) => image.map((value, k) => value + (k % 2 ? by : 0));

describe('memorisation', () => {
  const training = waves(1100, 1, side);
  const set = memoryPixels(training, shape);

  it('finds copies, mirrored copies and near copies, in every block of training images', async () => {
    const samples = [training[3], mirror(training[1090]), near(training[500], 2), ...waves(5, 9, side)];
    const found = await nearestTraining(memoryPixels(samples, shape), samples.length, set);
    expect(found.slice(0, 3).map(({ training: [first] }) => first)).toEqual([3, 1090, 500]);
    expect(found.slice(0, 2).map(({ ratio, distance }) => [ratio, distance])).toEqual([
      [0, 0],
      [0, 0],
    ]);
    // Every second value differs by 2.
    expect(found[2].distance).toBeCloseTo(Math.sqrt(4 / 2) / 255, 12);
    const { value, low, high, n } = memorised(found);
    expect(value).toBe(3 / 8);
    expect(n).toBe(8);
    expect(low).toBeLessThan(3 / 8);
    expect(high).toBeGreaterThan(3 / 8);
  });

  it('agrees with distances computed one by one', async () => {
    const samples = waves(6, 5, side);
    const found = await nearestTraining(memoryPixels(samples, shape), 6, set);
    for (const { sample, ratio, training: pair } of found) {
      const squares = training.map((image) =>
        Math.min(
          ...[image, mirror(image)].map((y) =>
            y.reduce((sum, value, k) => sum + (value - samples[sample][k]) ** 2, 0),
          ),
        ),
      );
      const order = [...squares.keys()].sort((a, b) => squares[a] - squares[b]);
      expect(pair).toEqual(order.slice(0, 2));
      expect(ratio).toBeCloseTo(Math.sqrt(squares[order[0]] / squares[order[1]]), 12);
    }
  });

  // An image that is its own mirror image has one nearest training image, not two at the same distance.
  it('counts an image and its mirrored copy as one', async () => {
    const symmetric = training[0].map((value, k) => (k % side < side / 2 ? value : mirror(training[0])[k]));
    const few = memoryPixels([symmetric, training[1]], shape);
    const [only] = await nearestTraining(memoryPixels([near(symmetric, 1)], shape), 1, few);
    expect(only.training).toEqual([0, 1]);
    expect(only.ratio).toBeLessThan(0.1);
  });

  it('leaves no tensors behind', async () => {
    await collectGarbage();
    const before = torch.liveTensors();
    await nearestTraining(memoryPixels(waves(3, 4, side), shape), 3, set);
    expect(torch.liveTensors()).toBe(before);
  });
});
