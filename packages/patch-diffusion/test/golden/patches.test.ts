import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { drawOffsets, extractPatches, patchPositions } from '../../src/patches/crops.js';
import { describeGolden, expectClose, replay } from '../helpers/golden.js';

interface PatchesConfig {
  resolution: number;
  patch_size: number;
  padding?: number | null;
  draws: { name: string }[];
}

describeGolden<PatchesConfig>('patches', ['patches'], ({ config, tensor, group }) => {
  const images = tensor('in.images');
  const pad = config.padding ?? 0;
  const padded = pad ? torch.constantPadNd(images, [pad, pad, pad, pad]) : images;
  const [N, , height, width] = padded.shape;
  const patch = { height: config.patch_size, width: config.patch_size };
  const used: string[] = [];
  const offsets = drawOffsets(N, patch, { height, width }, replay(group('in.draw.'), used));
  expect(used).toEqual(config.draws.map(({ name }) => name));
  expectClose(extractPatches(padded, patch, offsets), tensor('out.crops'), 0, 1e-6, 'crops');
  // With padding, positions are counted in the padded image and scaled by the unpadded one.
  const image = { height: images.shape[2], width: images.shape[3] };
  expectClose(patchPositions(patch, image, offsets), tensor('out.images_pos'), 0, 1e-6, 'positions');
});
