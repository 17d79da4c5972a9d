import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { partOf } from '../../src/common/random-part.js';
import { TorchRandom } from '../../src/common/random-source.js';
import {
  type AugmentSpec,
  type AugmentTrace,
  activeOps,
  augmentLabelDim,
  createAugment,
  trainingAugment,
} from '../../src/diffusion/augmentation/index.js';
import { expectClose } from '../helpers/golden.js';

const random = (seed: number) => new TorchRandom('cpu', new torch.Generator('cpu', seed));

/** A smooth picture, which resampling hardly changes. */
function picture(N: number, C: number, H: number, W: number): torch.Tensor {
  const wave = (size: number) => torch.linspace(0, 3, size).sin();
  return torch.outer(wave(H), wave(W)).expand([N, C, H, W]).contiguous();
}

describe('augmentation', () => {
  it('has the published label layout', () => {
    expect(augmentLabelDim(trainingAugment(0.12))).toBe(9);
    expect(activeOps(trainingAugment(0.12))).toEqual([
      'xflip',
      'yflip',
      'scale',
      'rotateFrac',
      'aniso',
      'translateFrac',
    ]);
    expect(augmentLabelDim({})).toBe(0);
  });

  it('does nothing when nothing is on, and hands out its own images', () => {
    const images = picture(2, 3, 8, 8);
    const result = createAugment({})(images, random(1));
    expectClose(result.images, images, 0);
    expect(result.labels.shape).toEqual([2, 0]);
    expect(result.images).not.toBe(images);
  });

  it.each([
    [1, 16, 24],
    [3, 12, 12],
    [4, 8, 20],
  ])('with shut gates leaves %i×%i×%i images nearly as they are, with labels of zeros', (C, H, W) => {
    const images = picture(3, C, H, W);
    const spec: AugmentSpec = { ...trainingAugment(1e-9), xflip: 0 };
    const result = createAugment(spec)(images, random(2));
    expect(result.labels.abs().max().item()).toBe(0);
    expectClose(result.images, images, 0, 0.02);
  });

  it('mirrors half of the samples', () => {
    const images = torch.arange(8, { dtype: 'float32' }).expand([2000, 1, 1, 8]).contiguous();
    const { images: out, labels } = createAugment({ xflip: 1e8, p: 0.1 })(images, random(3));
    expect(labels.mean().item()).toBeGreaterThan(0.45);
    expect(labels.mean().item()).toBeLessThan(0.55);
    const isMirrored = out.select(3, 0).flatten().eq(7).to({ dtype: 'float32' });
    expectClose(isMirrored, labels.flatten(), 0);
  });

  it('draws for a part of a batch, such as that of a rank, what it draws for the whole', () => {
    const count = 12;
    const images = torch.randn([count, 3, 16, 16], { generator: new torch.Generator('cpu', 5) });
    const whole = createAugment(trainingAugment(0.9));
    const all = whole(images, random(6));
    const paddings: string[] = [];
    for (const [begin, end] of [
      [0, 3],
      [3, 12],
    ]) {
      const trace: AugmentTrace = {};
      const draws = partOf(random(6), count, { begin, end });
      const part = createAugment(trainingAugment(0.9), trace)(images.narrow(0, begin, end - begin), draws);
      paddings.push(String(trace.warp!.pad));
      // The same draws, bit for bit, which the labels tell.
      expectClose(part.labels, all.labels.narrow(0, begin, end - begin), 0);
      // The edges are extended as far as the images at hand need: positions are rounded otherwise, and no more.
      expectClose(part.images, all.images.narrow(0, begin, end - begin), 0, 1e-4);
    }
    expect(new Set(paddings).size).toBe(2);
  });

  it('acts with probability strength · p', () => {
    const { labels } = createAugment({ scale: 0.5, p: 0.5 })(picture(4000, 1, 4, 4), random(4));
    const share = labels.ne(0).to({ dtype: 'float32' }).mean().item();
    expect(Math.abs(share - 0.25)).toBeLessThan(0.03);
  });

  it('turns the picture as the labels say', () => {
    const images = torch.arange(9, { dtype: 'float32' }).reshape([1, 1, 3, 3]).expand([32, 1, 3, 3]);
    const { images: out, labels } = createAugment({ rotateInt: 1 })(images, random(1));
    const x = images.narrow(0, 0, 1);
    const turned: Record<string, torch.Tensor> = {
      '0,0': x,
      '1,0': x.flip([3]).transpose(2, 3),
      '1,1': x.flip([2, 3]),
      '0,1': x.flip([2]).transpose(2, 3),
    };
    const seen = Array.from({ length: 32 }, (_, n) => {
      const label = labels.select(0, n).toFloat32Array().join();
      expectClose(out.narrow(0, n, 1), turned[label], 0, 0, label);
      return label;
    });
    expect(new Set(seen).size).toBe(4);
  });

  it('leaves no tensor behind but its results', async () => {
    const images = picture(2, 3, 16, 16);
    const augment = createAugment({
      ...trainingAugment(1),
      rotateInt: 1,
      translateInt: 1,
      hue: 1,
      saturation: 1,
    });
    const source = random(5);
    await collectGarbage();
    const before = torch.liveTensors();
    const result = augment(images, source);
    expect(torch.liveTensors()).toBe(before + 2);
    result.images.dispose();
    result.labels.dispose();
  });

  it('says what it cannot do', () => {
    expect(() => createAugment({ hue: 1 })(picture(1, 4, 8, 8), random(1))).toThrow(
      /3 channels, or 1; these have 4/,
    );
    expect(() => createAugment({ rotateInt: 1 })(picture(1, 3, 8, 12), random(1))).toThrow(
      /square images; these have 12×8/,
    );
  });
});
