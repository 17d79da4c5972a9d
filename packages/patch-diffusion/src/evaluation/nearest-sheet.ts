/** The picture of the samples that are nearest to training images. */
import { labelledSheetPng, type SheetRow } from '../data/sheet.js';
import type { Nearest } from './memorisation.js';
import type { Pixels } from './pixels.js';

/** Images are enlarged to about this side. */
const IMAGE_PX = 96;

/** Three rows: samples, the nearest training image of each, and the second nearest. @returns PNG bytes */
export async function nearestSheet(
  nearest: readonly Nearest[],
  samples: Pixels,
  training: Pixels,
): Promise<Buffer> {
  const { channels, height, width } = samples;
  const shape = [nearest.length, channels, height, width] as const;
  const row = async (label: string, pixels: Pixels, indices: number[]): Promise<SheetRow> => ({
    ...{ label, shape, pixels: await pixels.read(indices) },
  });
  const ratios = nearest.map(({ ratio }) => ratio.toFixed(2)).join('  ');
  return labelledSheetPng(
    [
      await row(
        'samples',
        samples,
        nearest.map(({ sample }) => sample),
      ),
      await row(
        `nearest training images; distance ÷ distance of the next one: ${ratios}`,
        training,
        nearest.map(({ training: [first] }) => first),
      ),
      await row(
        'second nearest',
        training,
        nearest.map(({ training: [, second] }) => second),
      ),
    ],
    Math.max(1, Math.round(IMAGE_PX / Math.max(height, width))),
  );
}
