/** The rows of the demo's sheet that are there before training: real images, and those of a ready-made network. */
import { resolveGenerateOptions } from '../config/generate-options.js';
import type { TrainOptions } from '../config/train-options.js';
import { openImages } from '../data/open-images.js';
import type { SheetRow } from '../data/sheet.js';
import { prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import { sampleImages } from '../diffusion/sample.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { toPixels } from '../latents/latents.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import { READY_MADE } from '../run/ready-made.js';
import { samplerSettings } from '../sampling/settings.js';

/** Some of the images that the demo trains on. */
export async function realRow(options: TrainOptions, count: number): Promise<SheetRow> {
  const images = await openImages(options.data, {
    resolution: options.resolution ?? undefined,
    maxImages: count,
    seed: options.seed,
  });
  try {
    const { length, channels, height, width } = images;
    const indices = Array.from({ length }, (_, i) => i);
    const zeros = indices.map(() => 0);
    await images.ready(indices);
    const pixels = images.gather(indices, { size: { height, width }, rows: zeros, cols: zeros });
    return { label: 'real images', pixels, shape: [length, channels, height, width] };
  } finally {
    await images.close();
  }
}

/** What the networks draw that come with the package and were trained for longer, a row each. */
export async function readyMadeRows(count: number, deviceName: string): Promise<SheetRow[]> {
  const rows: SheetRow[] = [];
  for (const network of READY_MADE) rows.push(await readyMadeRow(network, count, deviceName));
  return rows;
}

async function readyMadeRow(network: string, count: number, deviceName: string): Promise<SheetRow> {
  const device = resolveDevice(deviceName);
  const { denoiser, info } = await loadAnySnapshot(await chooseSnapshot({ run: null, network }), { device });
  try {
    prepareDenoiser(denoiser, device, 'fp32');
    const seeds = Array.from({ length: count }, (_, seed) => seed);
    const sampler = samplerSettings(resolveGenerateOptions({ call: { network } }), info);
    const { labelDim } = denoiser;
    const labels = labelDim > 0 ? seeds.map((seed) => seed % labelDim) : null;
    const samples = await sampleImages(denoiser, { ...sampler, seeds, labels, device });
    const { pixels, shape } = await toPixels(samples, null);
    const [, channels, height, width] = shape;
    const label = `drawn by the network ${network}, which comes along`;
    return { label, pixels, shape: [count, channels, height, width] };
  } finally {
    denoiser.dispose();
  }
}
