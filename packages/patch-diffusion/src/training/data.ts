/** Opens what a run trains on: images of any kind, or latents that `prepare --latents` made. */
import { toExtent } from '../config/resolve.js';
import type { TrainOptions } from '../config/train-options.js';
import { isLatentPath, openLatents } from '../data/latents.js';
import { openImages } from '../data/open-images.js';
import type { DataSet, Progress } from '../data/types.js';
import { UserError } from '../errors.js';
import { extentName } from '../patches/extent.js';
import { programName } from '../program-name.js';

/**
 * Opens the data of a run as its options say.
 *
 * @throws UserError when there is no usable data, or it is not of the kind that the options name
 */
export async function openTrainingData(
  options: TrainOptions,
  listeners: { readonly signal?: AbortSignal | undefined; readonly onProgress?: Progress } = {},
): Promise<DataSet> {
  const { data, seed } = options;
  const common = {
    labels: options.cond,
    xflip: options.xflip,
    seed,
    ...(options.maxImages === null ? {} : { maxImages: options.maxImages }),
  };
  if (isLatentPath(data)) {
    if (options.latents === false)
      throw wrongKind(`--latents false, but ${data} holds latents; give images, or leave the option out`);
    const latents = await openLatents(data, common);
    const { downFactor } = latents.latents;
    const size = extentName({ height: latents.height * downFactor, width: latents.width * downFactor });
    const wanted = options.resolution === null ? null : extentName(toExtent(options.resolution));
    if (wanted === null || wanted === size) return latents;
    await latents.close();
    throw wrongKind(
      `--resolution ${wanted}: the latents in ${data} are of images of ${size} px; leave it out, or prepare them again`,
    );
  }
  if (options.latents === true) {
    throw wrongKind(
      `--latents: ${data} holds images; encode them once with: ${programName()} prepare ${data} --latents --autoencoder FOLDER --out latents.safetensors`,
    );
  }
  return openImages(data, {
    ...common,
    ...(options.resolution === null ? {} : { resolution: options.resolution }),
    ...(options.channels === null ? {} : { channels: options.channels }),
    strict: options.strict,
    ...(listeners.signal ? { signal: listeners.signal } : {}),
    ...(listeners.onProgress ? { onProgress: listeners.onProgress } : {}),
  });
}

function wrongKind(message: string): UserError {
  return new UserError('WRONG_DATA', message, { exitCode: 2 });
}
