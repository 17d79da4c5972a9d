/**
 * Draws docs/images/patches.png: what training takes from six images of the demo set. Whole images, and patches of half
 * and a quarter of the side with the batch multipliers of the paper; under each row the two coordinate channels as
 * colours (red is x, green is y, from −1, dark, to 1, bright).
 *
 *   node examples/patches-picture.mjs [file.png]
 */
import { writeFile } from 'node:fs/promises';
import * as torch from '@patch-diffusion/torch';
import { demoImages, labelledSheetPng } from 'patch-diffusion';
import {
  drawOffsets,
  extractPatches,
  patchPositions,
  pixelsToFloat,
  TorchRandom,
  toUint8,
} from 'patch-diffusion/method';

const SIDE_PX = 64;
const SHOWN = [165, 236, 330, 500, 905, 1120]; // places in the demo set
const FRAMES = { 2: [20, 60, 160], 4: [210, 30, 30] }; // RGB by divisor of the side

const file = process.argv[2] ?? 'docs/images/patches.png';
const random = new TorchRandom('cpu', new torch.Generator('cpu', 7));
const set = await demoImages({ resolution: SIDE_PX, background: 'pastel' });
const image = { height: SIDE_PX, width: SIDE_PX };
const zeros = SHOWN.map(() => 0);
const pixels = set.gather(SHOWN, { size: SIDE_PX, rows: zeros, cols: zeros }); // [6, 3, 64, 64]
await set.close();
const images = pixelsToFloat(pixels, [SHOWN.length, 3, SIDE_PX, SIDE_PX], 'cpu');

const whole = drawOffsets(SHOWN.length, image, image, random);
const rows = [
  {
    label: `${SHOWN.length} whole images; frames: the first patches below`,
    pixels,
    count: SHOWN.length,
    side: SIDE_PX,
  },
  coordinateRow(whole, SHOWN.length, SIDE_PX),
];
for (const divisor of [2, 4]) {
  const [count, side] = [SHOWN.length * divisor, SIDE_PX / divisor];
  const patch = { height: side, width: side };
  const offsets = drawOffsets(count, patch, image, random);
  const patches = extractPatches(images.repeat([divisor, 1, 1, 1]), patch, offsets); // [N, 3, P, P]
  const label = `or ${count} patches of ${side} × ${side} px (1/${divisor ** 2} of the pixels each)`;
  rows.push({ label, pixels: toUint8(patches), count, side }, coordinateRow(offsets, count, side));
  drawFrames(offsets, side, FRAMES[divisor]);
}
const sheet = rows.map(({ label, pixels, count, side }) => ({
  label,
  pixels,
  shape: [count, 3, side, side],
}));
await writeFile(file, await labelledSheetPng(sheet));
console.log(file);

/** The coordinate channels as red and green. */
function coordinateRow(offsets, count, side) {
  const positions = patchPositions({ height: side, width: side }, image, offsets); // [N, 2, P, P]
  const blue = torch.zeros([count, 1, side, side]);
  const label = 'coordinates of their pixels in the whole image: red is x, green is y';
  return { label, pixels: toUint8(torch.cat([positions, blue], 1)), count, side };
}

/** Frames the first patch of each image in `pixels`. */
function drawFrames({ rows, cols }, side, colour) {
  for (const n of SHOWN.keys()) {
    const [top, left] = [Number(rows.toTypedArray()[n]), Number(cols.toTypedArray()[n])];
    for (let y = top; y < top + side; y++) {
      for (let x = left; x < left + side; x++) {
        if (y > top && y < top + side - 1 && x > left && x < left + side - 1) continue;
        for (const [c, value] of colour.entries()) pixels[((n * 3 + c) * SIDE_PX + y) * SIDE_PX + x] = value;
      }
    }
  }
}
