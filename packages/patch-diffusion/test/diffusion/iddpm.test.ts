/** iDDPM's table of noise levels, for any constants. */
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { createDenoiser, type IddpmDenoiser } from '../../src/diffusion/preconditioning.js';

const network = {
  type: 'DhariwalUNet',
  ...{ imgResolution: 8, inChannels: 3, outChannels: 6, modelChannels: 8, channelMult: [1], numBlocks: 1 },
} as const;

interface Constants {
  readonly M: number;
  readonly C1: number;
  readonly C2: number;
}

/** One operation in float32: operands and result are rounded. */
function float32(operation: (...x: number[]) => number, ...operands: number[]): number {
  return Float32Array.of(operation(...Float32Array.from(operands)))[0];
}
const times = (a: number, b: number) => float32((x, y) => x * y, a, b);
const over = (a: number, b: number) => float32((x, y) => x / y, a, b);
const plus = (a: number, b: number) => float32((x, y) => x + y, a, b);

/** u[j − 1] = √((u[j]² + 1) / max(ᾱ(j − 1)/ᾱ(j), C1) − 1). */
function table({ M, C1, C2 }: Constants): Float32Array {
  const alphaBar = (j: number) => {
    const sine = float32(Math.sin, over(over(times(0.5 * Math.PI, j), M), C2 + 1));
    return times(sine, sine);
  };
  const u = new Float32Array(M + 1);
  for (let j = M; j > 0; j--) {
    const ratio = float32(Math.max, over(alphaBar(j - 1), alphaBar(j)), C1);
    u[j - 1] = float32(Math.sqrt, plus(over(plus(times(u[j], u[j]), 1), ratio), -1));
  }
  return u;
}

/** ᾱ by libtorch's float32 operations on integers, as PyTorch promotes them. */
const alphaBars = ({ M, C2 }: Constants): Float32Array =>
  torch.scope(() => {
    const steps = torch.arange(M + 1, { dtype: 'int64' }).mul(0.5 * Math.PI);
    return steps
      .div(M)
      .div(C2 + 1)
      .sin()
      .square()
      .toFloat32Array();
  });

describe.each<Constants>([
  { M: 1000, C1: 0.001, C2: 0.008 },
  { M: 1000, C1: 0.001, C2: 0.05 },
  { M: 200, C1: 0.0123, C2: 0.008 },
  { M: 37, C1: 0.001, C2: 0.3 },
])('M $M, C1 $C1, C2 $C2', (constants) => {
  it('the table is that of float32 arithmetic to the last digit', () => {
    using denoiser = createDenoiser({ type: 'iddpm', network, ...constants }) as IddpmDenoiser;
    expect(denoiser.u.toFloat32Array()).toEqual(table(constants));
  });

  it('ᾱ is that of libtorch but for the last digit of its sine', () => {
    using denoiser = createDenoiser({ type: 'iddpm', network, ...constants }) as IddpmDenoiser;
    for (const [j, expected] of alphaBars(constants).entries())
      expect(Math.abs(denoiser.alphaBar(j) - expected)).toBeLessThanOrEqual(expected * 2.5e-7);
  });
});
