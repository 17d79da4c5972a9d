/** Stratified updates have the expected gradient of stochastic ones, with less variance (measured on a small net). */
import * as torch from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { TorchRandom } from '../../src/common/random-source.js';
import { denoisingLoss } from '../../src/diffusion/losses.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { drawOffsets, extractPatches, patchPositions } from '../../src/patches/crops.js';
import { defaultPatchSizes, planUpdate, type ScheduleName } from '../../src/patches/schedule.js';

const side = 16;
const image = { height: side, width: side };
const UPDATES = 200;

it('stratified: the same expected gradient, a smaller variance', () => {
  torch.manualSeed(3);
  const network = {
    ...{ type: 'SongUNet' as const, imgResolution: side, inChannels: 3, outChannels: 1 },
    ...{ modelChannels: 4, channelMult: [1], numBlocks: 1, attnResolutions: [], dropout: 0 },
  };
  const denoiser = createDenoiser({ type: 'pedm', network });
  const images = torch.randn([32, 1, side, side]).mul(0.5);
  // The last layer starts near zero, which would leave nothing to compare.
  const weight = [...denoiser.namedParameters()].find(([name]) => name.endsWith('aux_conv.weight'))![1];
  torch.noGrad(() => weight.normal_(0, 0.3));

  const stochastic = gradients('stochastic');
  const stratified = gradients('stratified');
  const error = Math.sqrt((stochastic.variance + stratified.variance) / UPDATES);
  expect(Math.abs(stochastic.mean - stratified.mean)).toBeLessThan(4 * error);
  expect(stratified.variance).toBeLessThan(0.9 * stochastic.variance);
  console.log(
    `variance of the gradient, stratified : stochastic = ${(stratified.variance / stochastic.variance).toFixed(2)}`,
  );
  denoiser.dispose();

  /** Mean and variance over updates of the gradient along a fixed direction. */
  function gradients(name: ScheduleName): { mean: number; variance: number } {
    const schedule = { name, sizes: defaultPatchSizes(image, 0.5, 1) };
    const random = new Mt19937(11);
    const draws = new TorchRandom('cpu', new torch.Generator('cpu', 5));
    const projections = Array.from({ length: UPDATES }, () => {
      denoiser.zeroGrad();
      for (const { patch, count, weight } of planUpdate(schedule, { batch: 8, batchGpu: 8 }, 0, () =>
        random.randomDouble(),
      ).microBatches) {
        torch.scope(() => {
          const chosen = images.indexSelect(
            0,
            torch.tensor(
              Array.from({ length: count }, () => random.randint(0, 32)),
              { dtype: 'int64' },
            ),
          );
          const offsets = drawOffsets(count, patch, image, draws);
          const batch = {
            images: extractPatches(chosen, patch, offsets),
            positions: patchPositions(patch, image, offsets),
          };
          const scale = (side * side) / (patch.height * patch.width);
          denoisingLoss(denoiser, batch, draws)
            .sum()
            .mul((weight * scale) / count)
            .backward();
        });
      }
      return torch.scope(() => {
        const grads = denoiser.parameters().map(({ grad }) => grad!.flatten());
        return torch.cat(grads).sum().item();
      });
    });
    const mean = projections.reduce((a, b) => a + b, 0) / UPDATES;
    return { mean, variance: projections.reduce((a, b) => a + (b - mean) ** 2, 0) / (UPDATES - 1) };
  }
});
