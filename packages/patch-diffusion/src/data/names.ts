/**
 * File names: which are images, and in which order they come.
 *
 * The orders are Python's, because they decide image numbers and class indices: strings compare by code point
 * (JavaScript's `<` compares UTF-16 units, which differs for emoji), paths compare part by part.
 */
import { basename, resolve } from 'node:path';
import type { SkippedFile } from './types.js';

/** Extensions of files that are read, lower case. */
const SUPPORTED = new Set(['jpg', 'jpeg', 'jpe', 'jfif', 'png', 'webp', 'gif', 'avif', 'tif', 'tiff']);

/** Extensions of images that are not read; such files are reported instead of being passed over in silence. */
const UNSUPPORTED = new Set([
  'bmp',
  'apng',
  'ppm',
  'pgm',
  'ico',
  'heic',
  'heif',
  'jxl',
  'jp2',
  'psd',
  'tga',
  'dng',
  'cr2',
  'nef',
  'arw',
  'svg',
]);

/** `image`, the reason why an image of this format is not read, or null for a file that is no image. */
export function classifyName(path: string): 'image' | { reason: string } | null {
  const parts = path.split('/');
  // Hidden files, and the metadata that macOS adds to archives (`__MACOSX/._photo.jpg`).
  if (parts.some((part) => part.startsWith('.') || part === '__MACOSX')) return null;
  const extension = /\.([^.]+)$/.exec(parts.at(-1)!)?.[1]?.toLowerCase();
  if (extension === undefined) return null;
  if (SUPPORTED.has(extension)) return 'image';
  return UNSUPPORTED.has(extension)
    ? { reason: `.${extension} is not supported; convert it to PNG or JPEG` }
    : null;
}

/** Name and folder of image `index` in a prepared dataset: `00012/img00012345.png`. */
export function preparedName(index: number): string {
  const digits = String(index).padStart(8, '0');
  return `${digits.slice(0, 5)}/img${digits}.png`;
}

export const PREPARED_NAME = /^\d{5}\/img\d{8}\.png$/;

/** What a set of images or latents is called: the base name of its path, without the endings of archives. */
export function datasetName(path: string): string {
  return basename(resolve(path)).replace(/\.(zip|tar|tgz|tar\.gz|safetensors)$|[-.]idx3-ubyte(\.gz)?$/i, '');
}

/** Python's order of strings: by code point. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    const xIsAstral = x >= 0xd800 && x <= 0xdfff;
    const yIsAstral = y >= 0xd800 && y <= 0xdfff;
    return xIsAstral === yIsAstral ? x - y : xIsAstral ? 1 : -1;
  }
  return a.length - b.length;
}

/** Sorts a list of skipped files by name: they are found in no particular order. */
export function sortSkipped(skipped: SkippedFile[]): SkippedFile[] {
  return skipped.sort((a, b) => compareNames(a.file, b.file));
}

/** Python's order of paths: part by part, so `cat/z.png` comes before `cat-wild/a.png`. */
export function comparePaths(a: string, b: string): number {
  const x = a.split('/');
  const y = b.split('/');
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const order = compareNames(x[i], y[i]);
    if (order !== 0) return order;
  }
  return x.length - y.length;
}
