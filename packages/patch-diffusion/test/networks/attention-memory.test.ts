import * as torch from '@patch-diffusion/torch';
import { expect, it } from 'vitest';
import { UNetBlock } from '../../src/networks/unet-block.js';

const peakBytes = () => process.resourceUsage().maxRSS * 1024;

/** A process of its own (one file of tests), since the peak of a process never falls. */
it.skipIf(!torch.hasOp('scaled_dot_product_attention'))('attention does not hold all scores at once', () => {
  const [heads, side] = [4, 64];
  const block = new UNetBlock(64, 64, 8, { attention: true, numHeads: heads });
  torch.scope(() => {
    const modulation = torch.zeros([1, 128]); // scale and shift
    const run = (size: number) =>
      block
        .forward(torch.randn([1, 64, size, size]), modulation)
        .sum()
        .backward();
    run(8);
    const before = peakBytes();
    run(side);
    const scoreBytes = heads * side ** 4 * 4; // 256 MiB
    expect(peakBytes() - before).toBeLessThan(scoreBytes / 2);
  });
  block.dispose();
});
