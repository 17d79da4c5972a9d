/**
 * A small image set that may be shown anywhere: Microsoft's Fluent Emoji (flat), MIT licence, drawn from the vector
 * graphics of the npm package `@iconify-json/fluent-emoji-flat`. About 1,240 pictures in seven classes; people
 * (nearly 1,900 variants of few pictures) and flags are left out.
 */
import { createRequire } from 'node:module';
import sharp from 'sharp';
import { CachedImages } from '../data/cached-images.js';
import { DECODE_CONCURRENCY, forEachConcurrently } from '../data/concurrency.js';
import { compareNames, preparedName } from '../data/names.js';
import { encodePng } from '../data/png.js';
import type { RawImage } from '../data/resize.js';
import type { ImageSet, Progress } from '../data/types.js';
import { createDatasetWriter } from './dataset-writer.js';

const LEFT_OUT = new Set(['People & Body', 'Flags']);

/** Light backgrounds that set off all the icons. */
const PASTELS = ['#ffe3e3', '#ffe8cc', '#fff3bf', '#d3f9d8', '#c5f6fa', '#d0ebff', '#e5dbff', '#ffdeeb'];

export interface DemoOptions {
  /** Side in pixels. Default 32. */
  resolution?: number;
  /** Default `white`; `pastel` gives each picture one of eight light colours, by its place in the list. */
  background?: 'white' | 'pastel';
  onProgress?: Progress;
  signal?: AbortSignal;
}

interface Icon {
  name: string;
  category: number;
  svg: string;
}

interface IconData {
  icons: Record<string, { body: string; width?: number; height?: number; left?: number; top?: number }>;
  width?: number;
  height?: number;
}

/**
 * The demo images in memory; classes are the emoji categories. Takes some seconds.
 * @example
 * ```ts
 * const images = await demoImages({ resolution: 16 });
 * console.log(images.length, images.classNames);
 * await images.close();
 * ```
 */
export async function demoImages(options: DemoOptions & { xflip?: boolean } = {}): Promise<ImageSet> {
  const { resolution = 32, xflip = false, onProgress, signal } = options;
  const { icons, categories } = loadIcons();
  const images = new CachedImages({
    name: 'demo',
    path: 'demo',
    count: icons.length,
    channels: 3,
    height: resolution,
    width: resolution,
    xflip,
    labels: { dim: categories.length, classNames: categories, values: icons.map((icon) => icon.category) },
    report: { used: icons.length, skipped: [] },
    entries: icons.map((_, i) => i),
    load: (entry) => render(icons[entry], entry, options),
    release: async () => {},
  });
  await images.loadAll(
    (entry) => icons[entry].name,
    (_file, error) => {
      throw error;
    },
    (done) => onProgress?.(done, icons.length, 'decode'),
    signal,
  );
  return images;
}

/**
 * Writes the demo images as a prepared dataset (zip or folder).
 *
 * @returns the number of images
 * @throws UserError if it cannot be written, or is there already and not `force`
 */
export async function renderDemoSet(
  out: string,
  options: DemoOptions & { force?: boolean } = {},
): Promise<number> {
  const { force = false, onProgress, signal } = options;
  const { icons, categories } = loadIcons();
  const writer = await createDatasetWriter(out, { force });
  try {
    const images = new Array<RawImage>(icons.length);
    let done = 0;
    await forEachConcurrently(icons, DECODE_CONCURRENCY, async (icon, i) => {
      signal?.throwIfAborted();
      images[i] = await render(icon, i, options);
      onProgress?.(++done, icons.length, 'write');
    });
    for (const [i, image] of images.entries()) await writer.add(preparedName(i), encodePng(image));
    const labels = icons.map((icon, i) => [preparedName(i), icon.category]);
    await writer.add('dataset.json', Buffer.from(JSON.stringify({ labels, classes: categories })));
    await writer.finish();
    return icons.length;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

function loadIcons(): { icons: Icon[]; categories: string[] } {
  const require = createRequire(import.meta.url);
  const data = require('@iconify-json/fluent-emoji-flat/icons.json') as IconData;
  const metadata = require('@iconify-json/fluent-emoji-flat/metadata.json') as {
    categories: Record<string, string[]>;
  };
  const categories = Object.keys(metadata.categories)
    .filter((name) => !LEFT_OUT.has(name))
    .sort(compareNames);
  const icons: Icon[] = [];
  const seen = new Set<string>();
  for (const [category, categoryName] of categories.entries()) {
    for (const name of [...metadata.categories[categoryName]].sort(compareNames)) {
      const icon = data.icons[name];
      if (icon === undefined || seen.has(name)) continue;
      seen.add(name);
      const [width, height] = [icon.width ?? data.width ?? 16, icon.height ?? data.height ?? 16];
      const viewBox = `${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}`;
      icons.push({
        name,
        category,
        svg: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${viewBox}" width="SIDE" height="SIDE">${icon.body}</svg>`,
      });
    }
  }
  return { icons, categories };
}

async function render(
  icon: Icon,
  index: number,
  { resolution = 32, background = 'white' }: DemoOptions,
): Promise<RawImage> {
  const svg = icon.svg.replaceAll('"SIDE"', `"${resolution}"`);
  const { data, info } = await sharp(Buffer.from(svg))
    .flatten({ background: background === 'white' ? 'white' : PASTELS[index % PASTELS.length] })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height, channels: info.channels };
}
