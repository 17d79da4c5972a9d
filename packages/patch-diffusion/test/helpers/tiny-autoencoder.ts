/** A small autoencoder with random weights, as a folder of diffusers: real weights are 335 MB. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import sharp from 'sharp';
import { saveAutoencoder } from '../../src/latents/autoencoder-folder.js';
import {
  type AutoencoderConfig,
  AutoencoderKL,
  STABLE_DIFFUSION_AUTOENCODER,
} from '../../src/networks/autoencoder-kl.js';

/** Writes one that divides the side by 2^(levels − 1), by default 4. */
export async function writeTinyAutoencoder(
  folder: string,
  { seed = 1, ...config }: Partial<AutoencoderConfig> & { seed?: number } = {},
): Promise<string> {
  torch.manualSeed(seed);
  const tiny = { blockOutChannels: [8, 16, 16], layersPerBlock: 1, normNumGroups: 4 };
  using model = new AutoencoderKL({ ...STABLE_DIFFUSION_AUTOENCODER, ...tiny, ...config });
  await saveAutoencoder(folder, model);
  return folder;
}

/** Coloured ramps as PNG files, in one folder per class. */
export async function writeRamps(
  folder: string,
  count: number,
  { width, height, classes = 1 }: { width: number; height: number; classes?: number },
): Promise<string> {
  for (let k = 0; k < classes; k++) await mkdir(join(folder, `class-${k}`), { recursive: true });
  for (let n = 0; n < count; n++) {
    const pixels = Buffer.alloc(width * height * 3);
    for (let p = 0; p < width * height; p++) {
      const [x, y] = [p % width, Math.floor(p / width)];
      pixels[3 * p] = (x * (n + 1)) % 256;
      pixels[3 * p + 1] = (y * 5 + n * 31) % 256;
      pixels[3 * p + 2] = (x * y + n) % 256;
    }
    const file = join(folder, `class-${n % classes}`, `${String(n).padStart(3, '0')}.png`);
    await sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(file);
  }
  return folder;
}
