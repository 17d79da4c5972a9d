/** Runs with noise that is chosen by the images. */
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { train } from '../../src/index.js';
import { CandidateStream } from '../../src/training/random-streams.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

/** A run's last state, and the losses of its updates. */
async function run(name: string, options: TrainOptionsInput) {
  const losses: number[] = [];
  const { runDir } = await train(
    { data, ...tinyOptions, durationKimg: 0.2, out: join(dir, name), ...options },
    { onEvent: (event) => event.type === 'step' && losses.push(event.loss) },
  );
  return { state: await stateOf(runDir), losses };
}

it('candidates depend on seed and update alone, and end with the cooldown', () => {
  const stream = (seed: number) => new CandidateStream({ count: 4, seed, until: 0.8, device: 'cpu' });
  const [one, same, other] = [stream(1), stream(1), stream(2)];
  const draw = (from: CandidateStream, step: number) =>
    from.at(0.5, step)!.random.randn('', [3]).toFloat32Array();
  const first = draw(one, 0);
  expect(draw(one, 1)).not.toEqual(first);
  expect(draw(other, 0)).not.toEqual(first);
  expect(draw(one, 0)).toEqual(first);
  expect(draw(same, 0)).toEqual(first);
  expect(one.at(0.79, 3)?.count).toBe(4);
  expect(one.at(0.8, 3)).toBeNull();
});

it('one candidate is as none, several make the loss smaller and leave all other draws as they are', async () => {
  const options: TrainOptionsInput = { schedule: 'stochastic', lrCooldown: 0, precision: 'fp32' };
  const [none, one, many] = [
    await run('none', options),
    await run('one', { ...options, immiscible: 1 }),
    await run('many', { ...options, immiscible: 64 }),
  ];
  expectSameState(one.state, none.state);
  const streams = ['random.cpu', 'order.items', 'order.random', 'patches.random'];
  for (const name of streams) expect(many.state.get(name), name).toEqual(none.state.get(name));
  // The noise of the first update brings out the image; the network is the same.
  expect(many.losses[0]).toBeLessThan(none.losses[0]);
  expect(many.losses).toHaveLength(none.losses.length);
});

it.each(['pedm', 'vp', 've'] as const)('trains with --precond %s in bfloat16', async (precond) => {
  const { losses } = await run(`precond-${precond}`, { precond, immiscible: 4, precision: 'bf16' });
  expect(losses.every(Number.isFinite)).toBe(true);
});
