/**
 * How good a model's pixel-art avatars are, measured without any network: every part of an avatar is one of a known
 * list of sprites, so one can say whether an image is an avatar at all, which parts it has, and whether any training image
 * has the same.
 */
import { setImmediate } from 'node:timers/promises';
import { UserError } from '../../common/errors.js';
import { chooseSubset } from '../../data/subset.js';
import { AVATAR_BACKGROUNDS } from '../../prepare/avatars.js';
import { type Bench, progressOf, realPixels, spread, trainingPixels } from '../bench.js';
import { type Figure, GROUPS, jackknife, meanFigure } from '../figure.js';
import { nearestTraining } from '../memorisation.js';
import { chunks, type Pixels } from '../pixels.js';
import type { Measured } from '../report.js';
import { fitAvatar } from './fit.js';
import { AREA, loadParts, type Part, SIDE, type Sprite } from './sprites.js';

/**
 * An image is a valid avatar if no pixel differs from its sprite by more than this (root mean square of the channels, of
 * 255). Settled once, before any model was judged: of 1,500 real avatars all but one are below 1.2, and that one is at 21;
 * of 200 that were blurred by a pixel none is below 44; the mean face is at 54; of 400 with noise in place of one part, one
 * is below 40.
 */
export const MATCH = 40;

/** Images that are measured at most. */
const MANY = 10_000;
/** Real images that show whether the data are avatars. */
const PROBE = 16;
/** Two images with no larger difference of any channel are the same avatar; drawing rounds. */
const ROUNDING = 2;

/** What an image shows. */
export interface AvatarFinding {
  readonly isValid: boolean;
  /** Visible variants and colours, as `hair/long03` and `hair/#83623b`; empty unless valid. */
  readonly attributes: readonly string[];
  /** Mean difference of the parts' colours to those of the list, RMS of the channels, 0 … 255. */
  readonly colourError: number;
  /** The avatar as it should be, uint8 [3, 16, 16]. */
  readonly ideal: Uint8Array;
}

/** Whether images can be avatars by their size. */
export const isAvatarSize = (set: {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}) => set.channels === 3 && set.height === SIDE && set.width === SIDE;

/** Share of valid avatars, of attributes seen, of new combinations and of copies, and errors of colour. */
export async function avatarMetric(bench: Bench): Promise<Measured> {
  const { options } = bench;
  const reals = realPixels(bench);
  if (reals !== null && !(await areAvatars(reals))) {
    if (options.metrics === null) return { metrics: {} };
    throw new UserError(
      'NO_AVATARS',
      '--metrics avatars: the real images are not pixel-art avatars of 16×16 px as the command avatars draws them; leave it out',
    );
  }
  const samples = await bench.samples();
  if (!isAvatarSize(samples)) {
    throw new UserError(
      'NO_AVATARS',
      `--metrics avatars: the images are ${samples.width}×${samples.height} px with ${samples.channels} channels; avatars are 16×16 in colour. Leave it out`,
    );
  }
  const parts = await loadParts();
  const count = Math.min(samples.count, MANY);
  const found = await findAvatars(bench, samples, count, parts, 'looking for the parts of faces');
  const realFound = reals
    ? await findAvatars(
        bench,
        spread(reals, Math.min(count, reals.count)),
        Math.min(count, reals.count),
        parts,
        'looking for the parts of real faces',
      )
    : null;
  const { copies, novelty } = await comparedWithTraining(bench, found);
  return {
    metrics: {
      avatarValidity: share(found, realFound),
      avatarCoverage: coverage(found, realFound, parts),
      ...(novelty ? { avatarNovelty: novelty } : {}),
      ...(copies ? { avatarCopies: copies } : {}),
      avatarColourError: meanFigure(
        found.map(({ colourError }) => colourError),
        realFound && mean(realFound.map(({ colourError }) => colourError)),
      ),
    },
  };
}

/** Whether real images are avatars: a few are enough, since nothing else looks like that. */
async function areAvatars(pixels: Pixels): Promise<boolean> {
  if (!isAvatarSize(pixels)) return false;
  const probe = [...chooseSubset(pixels.count, Math.min(PROBE, pixels.count), 0)];
  const bytes = await pixels.read(probe);
  // Before the sprites are drawn: most have their background in the corner.
  const backgrounds = new Set(AVATAR_BACKGROUNDS);
  const corner = (k: number) =>
    Buffer.from([0, 1, 2].map((c) => bytes[3 * AREA * k + AREA * c])).toString('hex');
  const likely = probe.filter((_, k) => backgrounds.has(corner(k))).length;
  if (likely < probe.length / 2) return false;
  const parts = await loadParts();
  return probe.every((_, k) => findAvatar(imageAt(bytes, k), parts).isValid);
}

/** One image of uint8 [N, 3, 16, 16]. */
const imageAt = (bytes: Uint8Array, k: number) => bytes.subarray(3 * AREA * k, 3 * AREA * (k + 1));

async function findAvatars(
  bench: Bench,
  pixels: Pixels,
  count: number,
  parts: readonly Part[],
  what: string,
): Promise<AvatarFinding[]> {
  const progress = progressOf(bench, what, count);
  const found: AvatarFinding[] = [];
  for (const indices of chunks(count)) {
    bench.context.signal?.throwIfAborted();
    const bytes = await pixels.read(indices);
    for (let k = 0; k < indices.length; k++) found.push(findAvatar(imageAt(bytes, k), parts));
    progress(found.length);
    await setImmediate();
  }
  return found;
}

/**
 * What one image shows.
 * @param image uint8 [3, 16, 16]
 */
export function findAvatar(image: Uint8Array, parts: readonly Part[]): AvatarFinding {
  const pixel = (i: number) => image[(i % 3) * AREA + Math.floor(i / 3)];
  const rows = Float32Array.from({ length: 3 * AREA }, (_, i) => pixel(i));
  const fit = fitAvatar(rows, parts, MATCH / 4);
  const isValid = fit.distances.every((distance) => distance <= MATCH);
  const attributes: string[] = [];
  for (const [p, { name, sprites }] of parts.entries()) {
    if (!isValid || fit.visible[p] === 0) continue;
    attributes.push(...attributesOf(name, sprites[fit.sprites[p]]));
  }
  const errors = fit.colourErrors.filter((error) => !Number.isNaN(error));
  const ideal = new Uint8Array(3 * AREA);
  for (const [i, value] of fit.drawn.entries()) ideal[(i % 3) * AREA + Math.floor(i / 3)] = Math.round(value);
  return { isValid, attributes, colourError: mean(errors), ideal };
}

const attributesOf = (part: string, { shape, colour }: Sprite) => [
  `${part}/${shape.variant}`,
  `${part}/#${Buffer.from(colour).toString('hex')}`,
];

const mean = (values: ArrayLike<number>) =>
  values.length === 0 ? 0 : Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;

const validity = (found: readonly AvatarFinding[]) => found.map(({ isValid }) => (isValid ? 1 : 0));

function share(found: readonly AvatarFinding[], reals: readonly AvatarFinding[] | null): Figure {
  const figure = meanFigure(validity(found), reals && mean(validity(reals)));
  return reals && reals.length !== found.length ? { ...figure, floorN: reals.length } : figure;
}

/** Share of all variants and colours that valid avatars show. */
function coverage(
  found: readonly AvatarFinding[],
  reals: readonly AvatarFinding[] | null,
  parts: readonly Part[],
): Figure {
  const all = new Set(
    parts.flatMap(({ name, sprites }) => sprites.flatMap((sprite) => attributesOf(name, sprite))),
  );
  const seen = (some: readonly AvatarFinding[]) =>
    new Set(some.flatMap(({ attributes }) => attributes)).size / all.size;
  const value = seen(found);
  const without = Array.from({ length: GROUPS }, (_, g) => seen(found.filter((_, i) => i % GROUPS !== g)));
  const { low, high } = jackknife(value, without);
  const figure = { value, low, high: Math.min(1, high), n: found.length, floor: reals && seen(reals) };
  return reals && reals.length !== found.length ? { ...figure, floorN: reals.length } : figure;
}

/** Copies among all samples, and the share of the valid combinations that no training image has. */
async function comparedWithTraining(
  bench: Bench,
  found: readonly AvatarFinding[],
): Promise<{ copies: Figure | null; novelty: Figure | null }> {
  const training = trainingPixels(bench);
  if (training === null || training.count < 2) return { copies: null, novelty: null };
  const valid = found.filter(({ isValid }) => isValid);
  const isCopy = await copiesOf(valid, training, bench);
  const copied = new Set(valid.filter((_, k) => isCopy[k]));
  const copies = meanFigure(found.map((one) => (copied.has(one) ? 1 : 0)));
  if (valid.length === 0) return { copies, novelty: null };
  const distinct = new Map(valid.map(({ ideal }, k) => [Buffer.from(ideal).toString('base64'), isCopy[k]]));
  return { copies, novelty: meanFigure([...distinct.values()].map((copy) => (copy ? 0 : 1))) };
}

/** Whether a training image shows the same avatar, for each of some valid ones. */
async function copiesOf(valid: readonly AvatarFinding[], training: Pixels, bench: Bench): Promise<boolean[]> {
  if (valid.length === 0) return [];
  const ideals: Pixels = {
    ...{ count: valid.length, channels: 3, height: SIDE, width: SIDE },
    read: async (indices) => Buffer.concat(indices.map((index) => valid[index].ideal)),
    close: async () => {},
  };
  const nearest = await nearestTraining(ideals, valid.length, training, {
    signal: bench.context.signal,
    onProgress: progressOf(bench, 'looking for copied faces', valid.length),
  });
  const isCopy: boolean[] = [];
  for (const indices of chunks(valid.length)) {
    const bytes = await training.read(indices.map((index) => nearest[index].training[0]));
    for (const [k, index] of indices.entries()) {
      const twin = imageAt(bytes, k);
      isCopy.push(valid[index].ideal.every((value, j) => Math.abs(value - twin[j]) <= ROUNDING));
    }
  }
  return isCopy;
}
