/** Sheets of images: a grid, or rows with labels, as PNG. */
import { fileURLToPath } from 'node:url';
import sharp, { type OverlayOptions } from 'sharp';

const BACKGROUND = 255;
const MARGIN_PX = 12;
const LABEL_PX = 24;
const FONT_FILE = fileURLToPath(
  import.meta.resolve('@expo-google-fonts/dm-sans/400Regular/DMSans_400Regular.ttf'),
);

/** Images of a sheet: uint8 [N, C, H, W]. */
export type SheetShape = readonly [count: number, channels: number, height: number, width: number];

/**
 * Images side by side in a nearly square grid, or with `columns` per row.
 * @returns PNG bytes
 */
export async function gridPng(pixels: Uint8Array, shape: SheetShape, columns?: number): Promise<Buffer> {
  const [count, channels, height, width] = shape;
  const cols = columns ?? Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / cols);
  const canvas = Buffer.alloc(rows * height * cols * width * channels, BACKGROUND);
  for (let n = 0; n < count; n++) {
    const [top, left] = [Math.floor(n / cols) * height, (n % cols) * width];
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < height; y++) {
        const from = ((n * channels + c) * height + y) * width;
        const to = (top + y) * cols * width + left;
        for (let x = 0; x < width; x++) canvas[(to + x) * channels + c] = pixels[from + x];
      }
    }
  }
  return sharp(canvas, { raw: { width: cols * width, height: rows * height, channels: channels as 1 | 3 } })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .png()
    .toBuffer();
}

/** A row of a labelled sheet. */
export interface SheetRow {
  readonly label: string;
  readonly pixels: Uint8Array;
  readonly shape: SheetShape;
  /** Whole-number enlargement of the row's images; that of the sheet where it is not given. */
  readonly scale?: number;
}

/**
 * Labelled rows of images under each other.
 * @param sheetScale whole-number enlargement of each image
 * @returns PNG bytes
 * @example
 * ```ts
 * const grey = new Uint8Array(2 * 3 * 16 * 16).fill(128);
 * const png = await labelledSheetPng([{ label: 'two grey images', pixels: grey, shape: [2, 3, 16, 16] }]);
 * await writeFile('sheet.png', png);
 * ```
 */
export async function labelledSheetPng(rows: readonly SheetRow[], sheetScale = 2): Promise<Buffer> {
  const blocks = await Promise.all(
    rows.map(async ({ label, pixels, shape, scale = sheetScale }) => {
      const [count, , height, width] = shape;
      const strip = await gridPng(pixels, shape, count);
      const image = await sharp(strip)
        .resize(width * count * scale, height * scale, { kernel: 'nearest' })
        .toColourspace('srgb')
        .png()
        .toBuffer();
      return { image, text: await textPng(label), width: width * count * scale, height: height * scale };
    }),
  );
  const layers: OverlayOptions[] = [];
  let top = MARGIN_PX;
  let right = 0;
  for (const { image, text, width, height } of blocks) {
    layers.push({ input: text.data, left: MARGIN_PX, top });
    top += LABEL_PX;
    layers.push({ input: image, left: MARGIN_PX, top });
    top += height + MARGIN_PX;
    right = Math.max(right, MARGIN_PX + Math.max(width, text.info.width));
  }
  const background = { r: BACKGROUND, g: BACKGROUND, b: BACKGROUND };
  return sharp({ create: { width: right + MARGIN_PX, height: top, channels: 3, background } })
    .composite(layers)
    .removeAlpha()
    .png()
    .toBuffer();
}

/** A line of text on a transparent ground, with a font that comes along, since a server may have none. */
export function textPng(text: string) {
  const markup = text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return sharp({ text: { text: markup, font: 'DM Sans 11', fontfile: FONT_FILE, dpi: 96, rgba: true } })
    .png()
    .toBuffer({ resolveWithObject: true });
}
