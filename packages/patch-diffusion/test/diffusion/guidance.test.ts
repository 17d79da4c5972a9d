import * as torch from '@patch-diffusion/torch';
import { afterAll, describe, it } from 'vitest';
import { guidedDenoise } from '../../src/diffusion/guidance.js';
import { expectClose } from '../helpers/golden.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

const conditional = tinyDenoiser(1, 3);
const other = tinyDenoiser(2, 3);
const unconditional = tinyDenoiser(3);
const withoutPositions = tinyDenoiser(4, 3, 'edm');
const generator = new torch.Generator('cpu', 5);
const x = torch.randn([2, 3, 8, 8], { generator, dtype: 'float64' });
const positions = torch.rand([1, 2, 8, 8], { generator });
const classLabels = torch.tensor([
  [1, 0, 0],
  [0, 0, 1],
]);
const inputs = { positions, classLabels };
const plain = (denoiser = conditional, labels: torch.Tensor | null = classLabels) =>
  denoiser.forward(x, 0.7, { positions, classLabels: labels }).to({ dtype: 'float64' });

afterAll(() => {
  for (const denoiser of [conditional, other, unconditional, withoutPositions]) denoiser.dispose();
});

describe('guidedDenoise', () => {
  it('without guidance is the network itself', () => {
    for (const guidance of [null, { scale: 1 }, { scale: 1, guide: other }]) {
      expectClose(guidedDenoise(conditional, x, 0.7, inputs, guidance), plain(), 0);
    }
  });

  it('is u + g·(c − u) with a class', () => {
    const u = plain(conditional, null);
    const expected = u.add(plain().sub(u), { alpha: 2.5 });
    expectClose(guidedDenoise(conditional, x, 0.7, inputs, { scale: 2.5 }), expected, 1e-6);
    // Coordinates may be shared, or one per sample.
    const perSample = { ...inputs, positions: positions.expand([2, -1, -1, -1]) };
    expectClose(guidedDenoise(conditional, x, 0.7, perSample, { scale: 2.5 }), expected, 1e-6);
  });

  it('leaves an unconditional network alone', () => {
    const alone = plain(unconditional, null);
    expectClose(guidedDenoise(unconditional, x, 0.7, { positions }, { scale: 3 }), alone, 0);
  });

  it('with a guide is D_guide + g·(D − D_guide), with the class for both', () => {
    const expected = (guide: typeof other) => plain(guide).add(plain().sub(plain(guide)), { alpha: 2 });
    for (const guide of [other, unconditional, withoutPositions]) {
      expectClose(guidedDenoise(conditional, x, 0.7, inputs, { scale: 2, guide }), expected(guide), 1e-12);
    }
  });

  it('is on only for low < σ ≤ high', () => {
    const guided = guidedDenoise(conditional, x, 0.7, inputs, { scale: 2 });
    const at = (interval: [number, number]) =>
      guidedDenoise(conditional, x, 0.7, inputs, { scale: 2, interval });
    for (const interval of [
      [0, 0.7],
      [0.69, 5],
    ] as [number, number][])
      expectClose(at(interval), guided, 0);
    for (const interval of [
      [0.7, 5],
      [0, 0.69],
    ] as [number, number][])
      expectClose(at(interval), plain(), 0);
  });
});
