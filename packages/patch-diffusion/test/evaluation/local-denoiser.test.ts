/** The optimal local denoiser against its definition, and the patch sizes that are proposed by it. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { beforeAll, describe, expect, it } from 'vitest';
import { suggestionText } from '../../src/cli/info-text.js';
import { openImages } from '../../src/data/open-images.js';
import { LocalDenoiser } from '../../src/evaluation/local-denoiser.js';
import { suggestPatches } from '../../src/evaluation/suggest-patches.js';
import { iconSet, runCli, temporaryFolder } from '../helpers/tiny-run.js';

describe('the local denoiser', () => {
  const [N, C, H, W] = [7, 2, 6, 5];
  const sigma = 0.7;

  /** Kamb & Ganguli's estimate of one pixel, as it is written. */
  function byDefinition(images: Float32Array, x: Float32Array, radius: number, at: [number, number, number]) {
    const [c, row, col] = at;
    const pixel = (n: number, k: number, i: number, j: number) => images[((n * C + k) * H + i) * W + j]!;
    const fits = Array.from({ length: N }, (_, n) => {
      let sum = 0;
      for (let k = 0; k < C; k++)
        for (let i = Math.max(0, row - radius); i <= Math.min(H - 1, row + radius); i++)
          for (let j = Math.max(0, col - radius); j <= Math.min(W - 1, col + radius); j++)
            sum += (pixel(n, k, i, j) - x[(k * H + i) * W + j]!) ** 2;
      return Math.exp(-sum / (2 * sigma ** 2));
    });
    const total = fits.reduce((a, b) => a + b, 0);
    return fits.reduce((mean, fit, n) => mean + (fit / total) * pixel(n, c, row, col), 0);
  }

  it.each([
    [1, 0],
    [3, 1],
    [5, 2],
    [11, 5],
  ])('with windows of %d px is the mean of the images that fit there', (window, radius) => {
    torch.scope(() => {
      torch.manualSeed(window);
      const images = torch.rand([N, C, H, W]).mul(2).sub(1);
      const x = torch.randn([C, H, W]);
      const [estimate] = new LocalDenoiser(images).estimate(x, sigma, [window]);
      const [all, noisy, D] = [images, x, estimate!].map((tensor) => tensor.toFloat32Array());
      for (const at of [
        [0, 0, 0],
        [1, 3, 2],
        [0, 5, 4],
        [1, 0, 3],
      ] as const) {
        const [c, row, col] = at;
        const expected = byDefinition(all!, noisy!, radius, [...at]);
        expect(D![(c * H + row) * W + col]).toBeCloseTo(expected, 5); // float32
      }
    });
  });
});

describe('proposed patch sizes', () => {
  let dir: string;
  let icons: string;
  beforeAll(async () => {
    dir = await temporaryFolder();
    icons = await iconSet(dir);
  });

  it('have shares that sum to 1, and higher noise levels need no smaller windows', async () => {
    const set = await openImages(icons, { labels: false, maxImages: 300 });
    const suggestion = await suggestPatches(set);
    const { windowsPx, levels, sizes } = suggestion;
    await set.close();
    expect(suggestionText(suggestion)).toMatch(/\nProposed: --patch-sizes (\d+:0\.\d+,)*16:[\d.]+$/);
    expect(windowsPx).toEqual([3, 5, 9, 31]);
    expect(sizes.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 1);
    expect(sizes.at(-1)?.sidePx).toBe(16);
    const windows = levels.map(({ windowPx }) => windowPx);
    expect(windows.at(-1)).toBeGreaterThanOrEqual(windows[0]!);
    // A pixel without neighbours is worse than one with, where there is much noise.
    expect(levels.at(-1)!.losses[0]).toBeGreaterThan(levels.at(-1)!.losses[2]!);
  });

  it('are printed with their reasons', async () => {
    const json = JSON.parse((await runCli(['info', icons, '--suggest', '16', '--json'])).stdout);
    expect(json.patches.levels).toHaveLength(7);
  });

  it('are for data sets of some images', async () => {
    await mkdir(join(dir, 'runs'));
    const network = await runCli(['info', 'avatars-16', '--suggest', '16']);
    expect([network.code, network.stderr]).toEqual([
      2,
      expect.stringMatching(/^error: --suggest is about data sets/),
    ]);
    const set = await openImages(icons, { labels: false, maxImages: 20 });
    await expect(suggestPatches(set)).rejects.toThrow(
      /has 20 images; patch sizes are proposed for 50 and more/,
    );
    await set.close();
  });
});
