/**
 * The number in the names of what a run writes: thousands of images, as in the official files
 * (`network-snapshot-000010`), and the images beyond where there are some (`network-snapshot-000010-250`). Files of
 * earlier versions have the thousands only.
 */
import { basename } from 'node:path';

/** The number of images as it stands in a file's name. */
export function fileStamp(nimg: number): string {
  const kimg = String(Math.floor(nimg / 1000)).padStart(6, '0');
  return nimg % 1000 === 0 ? kimg : `${kimg}-${String(nimg % 1000).padStart(3, '0')}`;
}

/** The number of images that a file's name tells (its last number, in thousands, where it is of another kind); −1 without. */
export function nimgInName(file: string): number {
  const name = basename(file);
  const [, kimg, images = '0'] = /(\d{6,})-(\d{3})\D*$/.exec(name) ?? /(\d+)\D*$/.exec(name) ?? [];
  return kimg === undefined ? -1 : Number(kimg) * 1000 + Number(images);
}
