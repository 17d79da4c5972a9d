/** Opens what a run trains on: images of any kind, or latents that `prepare --latents` made. */

import { UserError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import { toExtent } from '../config/fields.js';
import type { TrainOptions } from '../config/train-options.js';
import { openLatents } from '../data/latents.js';
import { isLatentPath } from '../data/names.js';
import { openImages } from '../data/open-images.js';
import { droppedBandsText } from '../data/plan-images.js';
import type { DataSet, Progress, SkippedFile } from '../data/types.js';
import { cacheFolder } from '../formats/hub/cache.js';
import { extentName } from '../patches/extent.js';
import { imageOptions, setOptions } from './data-options.js';
import type { TrainEventListener } from './events.js';

/** Skipped files that are named; the rest is counted. */
const SKIPPED_SHOWN = 10;

/**
 * Opens the data of a run as its options say, and warns of files that are not used: of those found now in one line,
 * of those found while training each at its time.
 *
 * @throws UserError when there is no usable data, or it is not of the kind that the options name
 */
export async function openTrainingData(
  options: TrainOptions,
  context: { readonly signal?: AbortSignal | undefined; readonly emit?: TrainEventListener } = {},
): Promise<DataSet> {
  const warn = (message: string) => context.emit?.({ type: 'warning', code: 'SKIPPED', message });
  const set = await openGiven(options, {
    ...(context.signal ? { signal: context.signal } : {}),
    onProgress: (done, total, phase) => context.emit?.({ type: 'data', phase, done, total }),
    onSkip: skipWarnings(options.data, warn),
  });
  const { skipped, skippedCount = skipped.length } = set.report;
  if (skippedCount > 0) {
    const shown = skipped.slice(0, SKIPPED_SHOWN).map(({ file, reason }) => `${file} (${reason})`);
    const more = skippedCount - shown.length;
    warn(
      `skipped ${skippedCount} files: ${shown.join(', ')}${more > 0 ? `, and ${more} more${listsAll(set)}` : ''}`,
    );
  }
  const { droppedBands, unusedLabels } = set.report;
  // A resumed run was told when it began.
  if (unusedLabels && options.resume === null) {
    const message = `${options.data} has labels (${unusedLabels} classes) that are not used; --cond trains on them`;
    context.emit?.({ type: 'warning', code: 'LABELS_NOT_USED', message });
  }
  if (droppedBands)
    context.emit?.({ type: 'warning', code: 'DROPPED_BANDS', message: droppedBandsText(droppedBands) });
  return set;
}

/** Where all skipped files can be seen; of latents, only the file that was made of them knows some. */
function listsAll({ path, latents }: DataSet): string {
  return latents ? '' : `; \`${programName()} info ${path} --verify\` lists all`;
}

/** Names the first files that another image takes the place of; then says once that there are more. */
function skipWarnings(path: string, warn: (message: string) => void): (skipped: SkippedFile) => void {
  let count = 0;
  return ({ file, reason }) => {
    count++;
    if (count <= SKIPPED_SHOWN) warn(`${file} (${reason}) cannot be used; the next image takes its place`);
    else if (count === SKIPPED_SHOWN + 1) {
      warn(`more images cannot be used; \`${programName()} info ${path} --verify\` lists all`);
    }
  };
}

interface Listeners {
  readonly signal?: AbortSignal;
  readonly onProgress: Progress;
  readonly onSkip: (skipped: SkippedFile) => void;
}

async function openGiven(options: TrainOptions, listeners: Listeners): Promise<DataSet> {
  try {
    return await open(options, listeners);
  } catch (error) {
    const isMoved = error instanceof UserError && error.code === 'DATA_NOT_FOUND' && options.resume !== null;
    if (!isMoved) throw error;
    const message = `the data of the run, ${options.data}, is not there; say with --data where it is now`;
    throw new UserError('DATA_NOT_FOUND', message, { cause: error });
  }
}

async function open(options: TrainOptions, listeners: Listeners): Promise<DataSet> {
  const { data } = options;
  if (isLatentPath(data)) {
    if (options.latents === false)
      throw wrongKind(`--latents false, but ${data} holds latents; give images, or leave the option out`);
    const latents = await openLatents(data, { ...setOptions(options), ...listeners });
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
    ...imageOptions(options),
    ...(options.cacheImages ? { cache: cacheFolder() } : {}),
    ...listeners,
  });
}

function wrongKind(message: string): UserError {
  return new UserError('WRONG_DATA', message, { exitCode: 2 });
}
