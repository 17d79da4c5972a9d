/**
 * What a training run would be: network size, updates, memory, time. For `--dry-run`; opens the data, builds the
 * network and times it on a few random images.
 */

import type { TrainOptions } from '../config/train-options.js';
import { patchesText } from './patches-text.js';
import { formatBytes, formatCount, formatSec, table } from './terminal.js';

/** Rows for people. */
export async function describePlan(options: TrainOptions): Promise<string> {
  const [{ estimateRun, estimateStep }, { patchSchedule, patchSizes }, resolve] = await Promise.all([
    import('../training/estimate.js'),
    import('../training/model.js'),
    import('../config/resolve.js'),
  ]);
  const rows: [string, string][] = [];
  const shape = await dataShape(options, rows);
  resolve.validateAgainstData(options, shape);
  const schedule = patchSchedule(options, patchSizes(options, shape));
  const { parameters, weightBytes, bytesPerImage, secPerImage } = estimateStep(options, shape);
  const { updates, imagesPerUpdate, pixelShare } = estimateRun(schedule, shape, options);
  const batchGpu = options.batchGpu ?? options.batch;
  const memory = weightBytes + bytesPerImage * batchGpu;
  const secPerUpdate = options.batch * pixelShare * secPerImage;
  const isChanging = options.schedule === 'annealed' || options.schedule === 'progressive';
  const onAverage = isChanging ? ' on average over the run' : '';
  rows.push(
    ['Patches', `${patchesText(schedule)}, ${options.schedule}`],
    ['Parameters', formatCount(parameters)],
    ['Updates', `${formatCount(updates)} of ${formatCount(Math.round(imagesPerUpdate))} images on average`],
    ['Pixel work', `${pixelShare.toFixed(2)} of an update on whole images${onAverage}`],
    [
      'Memory',
      `about ${formatBytes(memory)}: ${formatBytes(weightBytes)} for weights, gradient, Adam and average, the rest for ${batchGpu} images at a time`,
    ],
    [
      'Time',
      `about ${formatSec(updates * secPerUpdate)} on this machine, ${formatSec(secPerUpdate)} per update${onAverage} (measured on a small one)`,
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
