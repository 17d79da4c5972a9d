/** How the images of a run are opened, by its options. */
import type { TrainOptions } from '../config/train-options.js';
import type { OpenImagesOptions } from '../data/plan-images.js';

/** What holds for images and latents. */
export function setOptions({ cond, xflip, seed, maxImages, strict }: TrainOptions) {
  return { labels: cond, xflip, seed, strict, ...(maxImages === null ? {} : { maxImages }) };
}

/** Which images, of which size and colours. */
export function imageOptions(options: TrainOptions): OpenImagesOptions {
  const { resolution, channels } = options;
  return {
    ...setOptions(options),
    ...(resolution === null ? {} : { resolution }),
    ...(channels === null ? {} : { channels }),
  };
}
