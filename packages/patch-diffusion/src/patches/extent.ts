/** The extent of a patch or image in pixels. */
export interface Extent {
  readonly height: number;
  readonly width: number;
}
