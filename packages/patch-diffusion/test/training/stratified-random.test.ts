/** Draws that are spread over a batch: each is distributed as an independent one, and the gradient varies less. */
import * as torch from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { type RandomSource, TorchRandom } from '../../src/common/random-source.js';
import { drawOffsets } from '../../src/patches/crops.js';
import { defaultPatchSizes, drawPatchSize } from '../../src/patches/schedule.js';
import { evenUniform, stratified } from '../../src/training/stratified-random.js';

const source = (seed: number) => new TorchRandom('cpu', new torch.Generator('cpu', seed));

it('noise levels: one in each of equally likely ranges, normal in all', () => {
  const random = stratified(source(1));
  const count = 8;
  const bounds = Array.from({ length: count - 1 }, (_, i) => inverseNormal((i + 1) / count));
  const all: number[] = [];
  const first: number[] = [];
  for (let k = 0; k < 500; k++) {
    const values = [...random.randn('rnd_normal', [count, 1, 1, 1]).toFloat32Array()];
    values.forEach((value, i) => {
      expect(bounds.filter((bound) => bound < value).length).toBe(i);
    });
    all.push(...values);
    first.push(values[0]);
  }
  // Mean 0, variance 1, fourth moment 3.
  const moment = (power: number) => all.reduce((sum, v) => sum + v ** power, 0) / all.length;
  expect(moment(1)).toBeCloseTo(0, 2);
  expect(moment(2)).toBeCloseTo(1, 1);
  expect(Math.abs(moment(4) - 3)).toBeLessThan(0.3);
  expect(new Set(first).size).toBe(500);
});

it('positions: for each patch every one as likely as any other, and evenly in each batch', () => {
  const random = stratified(source(2));
  const [batches, count, places] = [2000, 16, 8];
  const first = { i: new Array<number>(places).fill(0), j: new Array<number>(places).fill(0) };
  for (let k = 0; k < batches; k++) {
    for (const name of ['i', 'j'] as const) {
      const own = [...random.randint(name, 0, places, [count]).toTypedArray()].map(Number);
      first[name][own[0]]++;
      for (let place = 0; place < places; place++)
        expect(own.filter((value) => value === place)).toHaveLength(count / places);
    }
  }
  // Four standard deviations.
  const bound = 4 * Math.sqrt((1 / places) * (1 - 1 / places) * batches);
  for (const counts of Object.values(first))
    for (const n of counts) expect(Math.abs(n - batches / places)).toBeLessThan(bound);
});

it('sizes: as often as their probabilities say, in every stretch of a run', () => {
  const sizes = defaultPatchSizes({ height: 64, width: 64 }, 0.5, 8);
  for (const start of [0, 1000, 123_456]) {
    const drawn = Array.from({ length: 40 }, (_, k) => drawPatchSize(sizes, evenUniform(0.37, start + k)));
    for (const { height, probability } of sizes) {
      const share = drawn.filter((size) => size.height === height).length / 40;
      expect(Math.abs(share - probability)).toBeLessThan(0.06);
    }
  }
});

it('all else is left to the source, and what is drawn depends on its state alone', () => {
  const [a, b] = [source(3), source(3)];
  expect(stratified(a).randn('noise', [4]).toFloat32Array()).toEqual(b.randn('noise', [4]).toFloat32Array());
  const [c, d] = [stratified(source(4)), stratified(source(4))];
  expect(c.randn('rnd_normal', [4]).toFloat32Array()).toEqual(d.randn('rnd_normal', [4]).toFloat32Array());
});

it('a mean over a batch is the same on average, with a fraction of the variance', () => {
  const batches = 1000;
  const image = { height: 16, width: 16 };
  const means = (random: RandomSource) => {
    const values = Array.from({ length: batches }, () =>
      torch.scope(() => {
        const sigma = random.randn('rnd_normal', [16, 1, 1, 1]).toFloat32Array();
        const { rows, cols } = drawOffsets(16, { height: 8, width: 8 }, image, random);
        const [i, j] = [rows, cols].map((t) => Array.from(t.toTypedArray(), Number));
        // Something smooth of level and position, with a product of all three.
        return i.reduce((sum, row, k) => sum + Math.exp(-(sigma[k] ** 2)) * (4 + row + j[k] * row), 0) / 16;
      }),
    );
    const mean = values.reduce((a, b) => a + b, 0) / batches;
    return { mean, variance: values.reduce((a, b) => a + (b - mean) ** 2, 0) / (batches - 1) };
  };
  const [independent, spread] = [means(source(5)), means(stratified(source(5)))];
  const error = Math.sqrt((independent.variance + spread.variance) / batches);
  expect(Math.abs(independent.mean - spread.mean)).toBeLessThan(4 * error);
  expect(spread.variance).toBeLessThan(0.4 * independent.variance);
  console.log(`variance, spread : independent = ${(spread.variance / independent.variance).toFixed(3)}`);
});

/** Φ⁻¹. */
function inverseNormal(u: number): number {
  return torch
    .tensor([2 * u - 1], { dtype: 'float64' })
    .erfinv()
    .mul(Math.SQRT2)
    .item();
}
