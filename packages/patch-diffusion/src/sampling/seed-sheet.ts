/** The sheet of generated images: a nearly square grid whose rows say which seeds they show. */
import { labelledSheetPng, type SheetRow, type SheetShape } from '../data/sheet.js';

/** Side of an image on a sheet, about: small images are enlarged so far that one can see them. */
const IMAGE_PX = 128;
/** Width of a sheet, about, up to which images are enlarged. */
const SHEET_PX = 4096;

/**
 * @param pixels uint8 [N, C, H, W]
 * @param caption what the images have in common
 * @returns PNG bytes
 */
export function seedSheetPng(
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

/** `class 3 (cats), 18 steps`. */
export function describeImages(
  index: number | null,
  classNames: readonly string[] | null,
  numSteps: number,
): string {
  const steps = `${numSteps} steps`;
  if (index === null) return steps;
  const name = classNames?.[index];
  return `class ${index}${name === undefined ? '' : ` (${name})`}, ${steps}`;
}

/** `seeds 3–6`, or all of them where they do not follow each other. */
export function seedRange(seeds: readonly number[]): string {
  const first = seeds[0]!;
  if (seeds.length === 1) return `seed ${first}`;
  const isRange = seeds.every((seed, i) => seed === first + i);
  return `seeds ${isRange ? `${first}–${seeds.at(-1)}` : seeds.join(', ')}`;
}
