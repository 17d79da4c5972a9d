/** What a batch says of the part of its images that the patches leave out. */
import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TorchRandom } from '../../src/common/random-source.js';
import { makePatchBatch } from '../../src/patches/batches.js';
import type { Crop, PatchSource } from '../../src/patches/patch-source.js';

const CHANNELS = 3;
const image = { height: 9, width: 7 };
const PIXELS = image.height * image.width;

const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);
const squares = (t: torch.Tensor) => t.square().sum([1, 2, 3]).toFloat32Array();

/** Two images of random values, of which crops are cut, and what was read of them. */
function sourceOf(seed: number, latents: PatchSource['latents'], spread = 0) {
  const draws = new TorchRandom('cpu', new torch.Generator('cpu', seed));
  const values = latents
    ? draws.randn('', [2 * CHANNELS * PIXELS]).toFloat32Array()
    : Uint8Array.from(draws.randint('', 0, 256, [2 * CHANNELS * PIXELS]).toTypedArray(), Number);
  const read: number[] = [];
  const source: PatchSource = {
    ...{ ...image, channels: CHANNELS, labelDim: 0, latents, labels: () => new Float32Array() },
    gather(indices: ArrayLike<number>, { size, rows, cols }: Crop) {
      const { height, width } = size as typeof image;
      const cut = Array.from(indices).flatMap((n, k) => {
        read.push(height * width);
        return Array.from({ length: CHANNELS * height * width }, (_, at) => {
          const [c, row, col] = [
            Math.floor(at / (height * width)),
            Math.floor(at / width) % height,
            at % width,
          ];
          return values[(n * CHANNELS + c) * PIXELS + (rows[k] + row) * image.width + cols[k] + col];
        });
      });
      return latents ? Float32Array.from([...cut, ...cut.map(() => spread)]) : Uint8Array.from(cut);
    },
  };
  return { source, read, values };
}

const patches = fc.record({
  height: fc.integer({ min: 1, max: image.height }),
  width: fc.integer({ min: 1, max: image.width }),
});

it('with the patches makes up the whole images, of pixels and of latents', () => {
  fc.assert(
    fc.property(patches, fc.nat(1000), fc.boolean(), (patch, seed, isLatent) =>
      torch.scope(() => {
        const { source, values } = sourceOf(seed, isLatent ? { scale: 0.5, shift: 0.2 } : null);
        const random = new TorchRandom('cpu', new torch.Generator('cpu', seed));
        const { images, energyOutside } = makePatchBatch(source, [1, 0, 1], patch, {
          random,
          withEnergy: true,
        });
        const isWhole = patch.height === image.height && patch.width === image.width;
        expect(energyOutside === null).toBe(isWhole);
        if (!energyOutside) return;
        const scaled = Array.from(values, (v) => (isLatent ? (v - 0.2) * 0.5 : v / 127.5 - 1));
        const energies = [0, 1].map((n) =>
          sum(scaled.slice(n * CHANNELS * PIXELS, (n + 1) * CHANNELS * PIXELS).map((v) => v ** 2)),
        );
        const outside = energyOutside.toFloat32Array();
        for (const [k, inside] of squares(images).entries())
          expect(inside + outside[k]).toBeCloseTo(energies[k === 1 ? 0 : 1], 3);
      }),
    ),
    { seed: 1, numRuns: 50 },
  );
});

it('of latents counts their spread', () => {
  const { source } = sourceOf(3, { scale: 2, shift: 0 }, 10);
  torch.scope(() => {
    const options = { random: new TorchRandom(), withEnergy: true };
    const { images, energyOutside } = makePatchBatch(source, [0], { height: 1, width: 1 }, options);
    const total = squares(images)[0] + energyOutside!.item();
    // 2² · 10² per value, and a hundredth of it for the means.
    expect(total / (400 * CHANNELS * PIXELS)).toBeCloseTo(1.01, 2);
  });
});

it('is that of the augmented images where whole images are augmented', () => {
  const { source, values } = sourceOf(4, null);
  torch.scope(() => {
    const augmentImages = (images: torch.Tensor) => ({ images: images.mul(2), labels: torch.zeros([1, 1]) });
    const { images, energyOutside } = makePatchBatch(
      source,
      [0],
      { height: 4, width: 4 },
      { random: new TorchRandom(), withEnergy: true, augmentImages },
    );
    const total = sum(Array.from(values.slice(0, CHANNELS * PIXELS), (v) => (v / 127.5 - 1) ** 2));
    expect(squares(images)[0] + energyOutside!.item()).toBeCloseTo(4 * total, 3);
  });
});

it('reads each whole image once, and none unless asked', () => {
  const { source, read } = sourceOf(5, null);
  const wholes = () => read.filter((pixels) => pixels === PIXELS).length;
  const patch = { height: 2, width: 2 };
  const make = (withEnergy: boolean) =>
    torch.scope(
      () => void makePatchBatch(source, [0, 1, 1], patch, { random: new TorchRandom(), withEnergy }),
    );
  make(false);
  expect(wholes()).toBe(0);
  for (let k = 0; k < 3; k++) make(true);
  expect(wholes()).toBe(2);
});
