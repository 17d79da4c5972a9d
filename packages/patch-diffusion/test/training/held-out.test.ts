/** The loss on held-out images can be compared between runs with different batches. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type TrainEvent, train } from '../../src/index.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

it('has the same noise levels and noise in any batch', async () => {
  const dir = await temporaryFolder();
  const data = await iconSet(dir);
  const losses: number[] = [];
  const onEvent = (event: TrainEvent) => {
    if (event.type === 'tick') losses.push(event.heldOutLoss!);
  };
  for (const batch of [8, 3]) {
    // The weights stay as the seed makes them; 20 images are no multiple of either batch.
    const still = { lr: 1e-30, batch, holdout: 20, maxImages: 40, durationKimg: 0.008 };
    await train(
      { ...tinyOptions, ...still, data, sampleTicks: null, out: join(dir, String(batch)) },
      { onEvent },
    );
  }
  expect(losses[0]).toBeGreaterThan(0.01);
  // Float32, convolutions of another batch.
  for (const loss of losses) expect(Math.abs(loss / losses[0] - 1)).toBeLessThan(1e-5);
});
