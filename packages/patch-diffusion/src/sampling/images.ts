/** The files that `generate` writes: one PNG per seed, and a sheet whose rows say which seeds they show. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { GenerateOptions } from '../config/generate-options.js';
import { forEachConcurrently } from '../data/concurrency.js';
import { withPngText } from '../data/png.js';
import { type LabelRecord, labelText, sheetText } from '../data/sample-labels.js';
import { gridPng, labelledSheetPng, type SheetRow, type SheetShape } from '../data/sheet.js';
import { readLabelFile } from './label-file.js';

/** Small images are enlarged on a sheet to about this side. */
const IMAGE_PX = 128;
/** Images are not enlarged where the sheet would be wider than this. */
const SHEET_PX = 4096;
/** Files that are open at a time. */
const FILES_AT_ONCE = 8;

/** Makes the folders of the output and tries them before any image is drawn. */
export async function checkOutput({ out, grid }: GenerateOptions): Promise<void> {
  const folders = [out, grid === null ? null : dirname(grid)];
  for (const folder of folders) {
    if (folder === null) continue;
    await guarded(`write to ${folder}`, async () => {
      makeFolder(folder);
      await access(folder, constants.W_OK);
    });
  }
  if (out !== null) await readLabelFile(out);
  const info = grid === null ? null : await stat(grid).catch(() => null);
  if (info?.isDirectory())
    throw new UserError('BAD_GRID', `--grid ${grid} is a folder; name a file in it, such as sheet.png`);
}

/**
 * Writes one `{seed:06d}.png` per image, with `subdirs` in a folder for each thousand seeds.
 * @param pixels uint8 [N, C, H, W]
 * @param labels of the images; empty without labels
 * @returns the files, in the order of the seeds
 */
export async function writePngs(
  out: string,
  pixels: Uint8Array,
  [, ...size]: SheetShape,
  seeds: readonly number[],
  labels: readonly LabelRecord[],
  subdirs: boolean,
): Promise<string[]> {
  const name = (seed: number) => String(seed).padStart(6, '0');
  const folderOf = (seed: number) => (subdirs ? join(out, name(seed - (seed % 1000))) : out);
  const files = seeds.map((seed) => join(folderOf(seed), `${name(seed)}.png`));
  const bytes = pixels.length / seeds.length;
  await forEachConcurrently(files, FILES_AT_ONCE, async (file, n) => {
    const png = await gridPng(pixels.subarray(n * bytes, (n + 1) * bytes), [1, ...size]);
    const image = labels.length ? withPngText(png, labelText(labels[n])) : png;
    await guarded(`write ${file}`, async () => {
      makeFolder(dirname(file));
      await writeFileAtomic(file, image);
    });
  });
  return files;
}

/**
 * Writes all images as one nearly square sheet.
 * @param pixels uint8 [N, C, H, W]
 * @param caption what the images have in common
 */
export async function writeSheet(
  file: string,
  pixels: Uint8Array,
  shape: SheetShape,
  seeds: readonly number[],
  labels: readonly LabelRecord[],
  caption: string,
): Promise<void> {
  const sheet = withPngText(await seedSheetPng(pixels, shape, seeds, caption), sheetText(labels));
  await guarded(`write ${file}`, () => writeFileAtomic(file, sheet));
}

function seedSheetPng(
  pixels: Uint8Array,
  [count, channels, height, width]: SheetShape,
  seeds: readonly number[],
  caption: string,
): Promise<Buffer> {
  const columns = Math.ceil(Math.sqrt(count));
  const bytes = channels * height * width;
  const rows = Array.from({ length: Math.ceil(count / columns) }, (_, row): SheetRow => {
    const inRow = seeds.slice(row * columns, (row + 1) * columns);
    const from = row * columns * bytes;
    return {
      label: `${seedRange(inRow)}${row === 0 ? `: ${caption}` : ''}`,
      pixels: pixels.subarray(from, from + inRow.length * bytes),
      shape: [inRow.length, channels, height, width],
    };
  });
  const side = Math.min(IMAGE_PX, SHEET_PX / columns);
  return labelledSheetPng(rows, Math.max(1, Math.floor(side / Math.max(height, width))));
}

/** `class 3 (cats), 18 steps`. @param label that of all images, or null */
export function describeImages(label: LabelRecord | null, numSteps: number): string {
  const steps = `${numSteps} steps`;
  if (label === null) return steps;
  if ('label' in label) return `label ${label.label.join(',')}, ${steps}`;
  return `class ${label.class}${label.name === undefined ? '' : ` (${label.name})`}, ${steps}`;
}

/** `seeds 3–6`, or each seed where they are not consecutive. */
function seedRange(seeds: readonly number[]): string {
  const [first] = seeds;
  if (seeds.length === 1) return `seed ${first}`;
  const isRange = seeds.every((seed, i) => seed === first + i);
  return `seeds ${isRange ? `${first}–${seeds.at(-1)}` : seeds.join(', ')}`;
}
