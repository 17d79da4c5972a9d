/**
 * What a training run would be: network size, updates, memory, time. For `--dry-run`; opens the data, builds the
 * network and times it on a few random images.
 */

import type { TrainOptions } from '../config/train-options.js';
import { formatBytes, formatCount, formatSec, table } from './terminal.js';

/** Rows for people. */
export async function describePlan(options: TrainOptions): Promise<string> {
  const [{ estimateStep }, { patchSizes }, { meanMultiplier }, resolve] = await Promise.all([
    import('../training/estimate.js'),
    import('../training/model.js'),
    import('../patches/schedule.js'),
    import('../config/resolve.js'),
  ]);
  const rows: [string, string][] = [];
  const shape = await dataShape(options, rows);
  resolve.validateAgainstData(options, shape);
  const patches = patchSizes(options, shape);
  const { parameters, weightBytes, bytesPerImage, secPerImage } = estimateStep(options, shape);
  const perUpdate = Math.floor(options.batch * meanMultiplier(patches));
  const updates = Math.ceil((options.durationKimg * 1000) / perUpdate);
  const pixels = patches.reduce((sum, p) => sum + p.probability * p.multiplier * p.height * p.width, 0);
  const share = pixels / (shape.height * shape.width);
  const batchGpu = options.batchGpu ?? options.batch;
  const memory = weightBytes + bytesPerImage * batchGpu;
  const secPerUpdate = options.batch * share * secPerImage;
  const sizes = patches.map(
    (p) => `${p.width}×${p.height} (${Math.round(p.probability * 100)} %, batch ×${p.multiplier})`,
  );
  rows.push(
    ['Patches', sizes.join(', ')],
    ['Parameters', formatCount(parameters)],
    ['Updates', `${formatCount(updates)} of ${formatCount(perUpdate)} images on average`],
    ['Pixel work', `${share.toFixed(2)} of an update on whole images`],
    [
      'Memory',
      `about ${formatBytes(memory)}: ${formatBytes(weightBytes)} for weights, gradient, Adam and average, the rest for ${batchGpu} images at a time`,
    ],
    [
      'Time',
      `about ${formatSec(updates * secPerUpdate)} on this machine, ${formatSec(secPerUpdate)} per update (measured on a small one)`,
    ],
    ['Snapshot', `${formatBytes(parameters * 4)} each`],
  );
  return table(rows);
}

async function dataShape(options: TrainOptions, rows: [string, string][]) {
  const { openTrainingData } = await import('../training/data.js');
  const images = await openTrainingData(options);
  try {
    const { height, width, channels, labelDim, length, latents, std } = images;
    const size = `${width}×${height} px, ${channels} channels`;
    if (latents === null) {
      const bytes = formatBytes(length * height * width * channels);
      rows.push(['Images', `${formatCount(length)} of ${size}, ${bytes} decoded`]);
    } else {
      const [w, h] = [width * latents.downFactor, height * latents.downFactor];
      rows.push(['Latents', `${formatCount(length)} of ${size}, of images of ${w}×${h} px`]);
      if (std !== null)
        rows.push(['Sigma data', `${options.sigmaData ?? std} (measured: ${std.toFixed(3)})`]);
    }
    return { height, width, channels, labelDim, latents, std };
  } finally {
    await images.close();
  }
}
