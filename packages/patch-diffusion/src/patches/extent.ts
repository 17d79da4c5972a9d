/** The extent of a patch or image in pixels. */
export interface Extent {
  readonly height: number;
  readonly width: number;
}

/** Coordinate channels beside those of the image: x and y. */
export const POSITION_CHANNELS = 2;

/** `64`, or `96x64` (width × height) where the sides differ: as options and statistics write it. */
export function extentName({ height, width }: Extent): string {
  return height === width ? String(height) : `${width}x${height}`;
}
