/**
 * Faces without end, for demonstrations and measurements: avatars of DiceBear, drawn from a seed. Every part (hair,
 * eyes, mouth, …) is one of a known list in one of a known list of colours, so how good a model's faces are can be
 * measured exactly (evaluation/avatars/). All designs used here are CC0.
 *
 * Seeds below {@link HELD_OUT_SEED} are for training, those from it on for what no model may have seen.
 */
import { createHash } from 'node:crypto';
import { createAvatar, type Style } from '@dicebear/core';
import * as openPeeps from '@dicebear/open-peeps';
import * as pixelArt from '@dicebear/pixel-art';
import sharp from 'sharp';
import { usageError } from '../common/errors.js';
import { type AvatarOptions, HELD_OUT_SEED } from '../config/avatar-options.js';
import { DECODE_CONCURRENCY } from '../data/concurrency.js';
import { preparedName } from '../data/names.js';
import { encodePng } from '../data/png.js';
import type { RawImage } from '../data/resize.js';
import type { Progress } from '../data/types.js';
import { createDatasetWriter } from './dataset-writer.js';

/** Behind the faces; none is close to a colour of skin. */
export const AVATAR_BACKGROUNDS = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'c7f0d2'];

/** What an avatar is made of, as the style names it: `{ hair: 'long03', hairColor: '#83623b', hat: undefined, … }`. */
type Traits = Readonly<Record<string, unknown>>;

interface AvatarStyle {
  readonly style: Style<object>;
  /** What it chooses from, where that is not everything. */
  readonly choices?: Readonly<Record<string, readonly string[] | number>>;
  /** Side in pixels that shows all there is. */
  readonly sidePx: number;
  /** Class names, with what an avatar of the class has; the first that fits counts, the last fits all. */
  readonly classes: readonly (readonly [name: string, has: (traits: Traits) => boolean])[];
}

const has = (part: string) => (traits: Traits) => traits[part] !== undefined;

/** Some 120,000 different faces, of what can be learnt in minutes: large shapes in few colours. */
const SIMPLE = {
  backgroundColor: ['b6e3f4', 'c0aede', 'ffd5dc'],
  skinColor: ['ffdbac', 'e0b687', 'b68655', '8d5524'],
  hair: ['short09', 'short14', 'short17', 'long05', 'long13', 'long14'],
  hairColor: ['28150a', '83623b', 'bd1700', '009bbd'],
  clothing: ['variant04', 'variant12', 'variant13'],
  clothingColor: ['428bca', 'd11141', 'ffd969', '00b159'],
  eyes: ['variant07', 'variant09'],
  eyesColor: ['5b7c8b'],
  mouth: ['happy10', 'happy12', 'sad06'],
  mouthColor: ['c98276', 'de0f0d'],
  glasses: ['dark03', 'light05'],
  glassesColor: ['323232'],
  accessoriesProbability: 0,
  beardProbability: 0,
  hatProbability: 0,
};

const STYLES: Record<AvatarOptions['style'], AvatarStyle> = {
  'pixel-art': {
    style: pixelArt as Style<object>,
    sidePx: 16,
    classes: [
      ['hat', has('hat')],
      ['glasses', has('glasses')],
      ['beard', has('beard')],
      ['plain', () => true],
    ],
  },
  'pixel-art-simple': {
    style: pixelArt as Style<object>,
    choices: SIMPLE,
    sidePx: 16,
    classes: [
      ['glasses', has('glasses')],
      ['plain', () => true],
    ],
  },
  'open-peeps': {
    style: openPeeps as Style<object>,
    sidePx: 32,
    classes: [
      ['mask', has('mask')],
      ['glasses', has('accessories')],
      ['beard', has('facialHair')],
      ['plain', () => true],
    ],
  },
};

/** An avatar as vector graphics, and what it is made of. */
export function avatarOf(
  style: AvatarOptions['style'],
  seed: number,
): { readonly svg: string; readonly traits: Traits } {
  // DiceBear's generator gives like avatars for like seeds; a hash has none.
  const text = createHash('sha256').update(String(seed)).digest('hex').slice(0, 16);
  const { style: drawn, choices } = STYLES[style];
  const avatar = createAvatar(drawn, { seed: text, backgroundColor: AVATAR_BACKGROUNDS, ...choices });
  const { extra, svg } = avatar.toJson();
  return { svg, traits: extra };
}

/** Draws vector graphics as RGB pixels of a square image. */
export async function drawSvg(svg: string, sidePx: number): Promise<RawImage> {
  const sized = svg.replace('<svg ', `<svg width="${sidePx}" height="${sidePx}" `);
  const { data, info } = await sharp(Buffer.from(sized))
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height, channels: info.channels };
}

/** What was written. */
export interface AvatarReport {
  readonly out: string;
  readonly count: number;
  readonly sidePx: number;
  readonly firstSeed: number;
  readonly lastSeed: number;
  /** Names of the classes; null without labels. */
  readonly classNames: readonly string[] | null;
  /** Size of the result. */
  readonly bytes: number;
}

/**
 * Writes avatars as a prepared dataset. Nothing is left behind on failure or when `signal` aborts.
 *
 * @param options from `resolveAvatarOptions`
 * @throws UserError if it cannot be written, or is there already and not `force`; the signal's reason when aborted
 */
export async function writeAvatars(
  options: AvatarOptions,
  { onProgress, signal }: { onProgress?: Progress; signal?: AbortSignal } = {},
): Promise<AvatarReport> {
  const { out, style, count, heldOut, labels, force } = options;
  const firstSeed = options.firstSeed ?? (heldOut ? HELD_OUT_SEED : 0);
  const lastSeed = firstSeed + count - 1;
  if (lastSeed > Number.MAX_SAFE_INTEGER)
    throw usageError('BAD_OPTION', `--first-seed ${firstSeed}: too large; give a smaller one`);
  const { classes, sidePx: ownSide } = STYLES[style];
  const sidePx = options.resolution ?? ownSide;
  const writer = await createDatasetWriter(out, { force });
  try {
    const labelled: [string, number][] = [];
    for (let done = 0; done < count; done += DECODE_CONCURRENCY) {
      signal?.throwIfAborted();
      const block = Array.from({ length: Math.min(DECODE_CONCURRENCY, count - done) }, (_, i) => done + i);
      const avatars = block.map((i) => avatarOf(style, firstSeed + i));
      const images = await Promise.all(avatars.map(({ svg }) => drawSvg(svg, sidePx)));
      for (const [k, i] of block.entries()) {
        await writer.add(preparedName(i), encodePng(images[k]));
        labelled.push([preparedName(i), classes.findIndex(([, fits]) => fits(avatars[k].traits))]);
      }
      onProgress?.(done + block.length, count, 'write');
    }
    const classNames = labels ? classes.map(([name]) => name) : null;
    const text = labels ? { labels: labelled, classes: classNames } : { labels: null };
    await writer.add('dataset.json', Buffer.from(JSON.stringify(text)));
    const bytes = await writer.finish();
    return { out, count, sidePx, firstSeed, lastSeed, classNames, bytes };
  } catch (error) {
    await writer.discard();
    throw error;
  }
}
