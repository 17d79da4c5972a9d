import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

it('says nothing of NNPACK where the processor does not suit it', () => {
  // libtorch asks for NNPACK for one image on one thread.
  const program = `
    import * as torch from '@patch-diffusion/torch';
    torch.setNumThreads(1);
    const image = torch.conv2d(torch.ones([1, 1, 16, 16]), torch.ones([1, 1, 3, 3]), null, 1, 1);
    console.log(image.sum().item());`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  // 14 · 14 pixels with nine neighbours, 4 · 14 at the edges with six, 4 corners with four.
  expect(Number(stdout)).toBe(14 * 14 * 9 + 4 * 14 * 6 + 4 * 4);
});
