/** Small flat images in folders, and the pixels of a whole set. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import type { DataSet } from '../../src/data/types.js';

/** Width, height and colour. */
export type ImageSpec = readonly [width: number, height: number, colour: string];

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Whole images [N, C, H, W]. */
export async function whole(set: DataSet, indices = range(set.length)): Promise<Uint8Array> {
  await set.ready(indices);
  const zeros = indices.map(() => 0);
  const size = { height: set.height, width: set.width };
  return set.gather(indices, { size, rows: zeros, cols: zeros }) as Uint8Array;
}

/** A flat picture. */
export const flat = (width: number, height: number, background: string) =>
  sharp({ create: { width, height, channels: 3, background } });

/** Writes images; the ending of a name is its format. */
export async function imageFolder(folder: string, files: Record<string, ImageSpec>): Promise<string> {
  for (const [file, [width, height, colour]] of Object.entries(files)) {
    await mkdir(join(folder, file, '..'), { recursive: true });
    const format = file.split('.').at(-1)!.toLowerCase() as 'png';
    await writeFile(join(folder, file), await flat(width, height, colour).toFormat(format).toBuffer());
  }
  return folder;
}
