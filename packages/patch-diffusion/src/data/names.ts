/**
 * File names: which are images, and in which order they come.
 *
 * The orders are Python's, because they decide image numbers and class indices: strings compare by code point
 * (JavaScript's `<` compares UTF-16 units, which differs for emoji), paths compare part by part.
 */
import { basename, extname, resolve } from 'node:path';
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

/** Extensions of files that lie beside images and are none; others are looked into. */
const NO_IMAGE = new Set(
  (
    'txt md json jsonl yaml yml csv tsv xml html htm log ini cfg toml db sqlite py js ts ipynb sh ' +
    'caption npy npz pt pth ckpt pkl bin safetensors h5 parquet tfrecord mat ' +
    'zip tar gz tgz bz2 xz 7z rar mp4 m4v mov avi mkv webm mp3 wav flac pdf doc docx xls xlsx'
  ).split(' '),
);

/** A file that is not used, as `reason` says. */
type NotUsed = { readonly reason: string };

/**
 * `image`, the reason why an image of this format is not read, null for a file that is no image, or `unsure` where only
 * its content tells: see {@link classifyContent}.
 */
export function classifyName(path: string): 'image' | 'unsure' | NotUsed | null {
  const parts = path.split('/');
  // Hidden files, and the metadata that macOS adds to archives (`__MACOSX/._photo.jpg`).
  if (parts.some((part) => part.startsWith('.') || part === '__MACOSX')) return null;
  const extension = extensionOf(path);
  if (SUPPORTED.has(extension)) return 'image';
  if (UNSUPPORTED.has(extension))
    return { reason: `.${extension} is not supported; convert it to PNG or JPEG` };
  return NO_IMAGE.has(extension) ? null : 'unsure';
}

/** Lower case, without the dot; empty where there is none. */
const extensionOf = (path: string): string => /\.([^./]+)$/.exec(path)?.[1].toLowerCase() ?? '';

/** Bytes at the start of a file that {@link classifyContent} needs. */
export const HEAD_BYTES = 16;

/**
 * What a file is that its name leaves open, by its first bytes: used where the name has no extension, or one such as
 * `JPG_large` that begins with that of an image; else an image under a foreign name, which is reported.
 */
export function classifyContent(path: string, head: Uint8Array): 'image' | NotUsed | null {
  const extension = extensionOf(path);
  const isNamedAsImage = [...SUPPORTED].some((known) => extension.startsWith(known));
  if (!hasImageSignature(head)) return isNamedAsImage ? { reason: 'not an image of a known format' } : null;
  if (/(_original|~)$/.test(extension)) return { reason: 'a backup copy by its name; rename it to use it' };
  if (extension === '' || isNamedAsImage) return 'image';
  return { reason: `an image inside, but .${extension} is not known for images; convert or rename it` };
}

/** What the formats that are read begin with, and at which byte. */
const SIGNATURES: readonly (readonly [at: number, text: string])[] = [
  [0, '\xff\xd8\xff'], // JPEG
  [0, '\x89PNG\r\n\x1a\n'],
  [0, 'GIF87a'],
  [0, 'GIF89a'],
  [8, 'WEBP'],
  [4, 'ftypavif'],
  [4, 'ftypavis'],
  [0, 'II*\0'], // TIFF
  [0, 'MM\0*'],
  [0, 'II+\0'], // BigTIFF
  [0, 'MM\0+'],
];

function hasImageSignature(head: Uint8Array): boolean {
  const text = Buffer.from(head).toString('latin1');
  return SIGNATURES.some(([at, signature]) => text.startsWith(signature, at));
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

/** Whether a path is meant as a file of latents. */
export function isLatentPath(path: string): boolean {
  return extname(path).toLowerCase() === '.safetensors';
}
