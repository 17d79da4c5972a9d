/** Where a patch may lie in its image. Plain numbers, without Node or native imports. */
import type { Extent } from './extent.js';

/**
 * In how many rows and columns the top-left pixel of a patch may lie; every place is as likely as any other (Patch Diffusion,
 * section 3.1).
 */
export function offsetCounts(patch: Extent, image: Extent): { readonly rows: number; readonly cols: number } {
  return { rows: image.height - patch.height + 1, cols: image.width - patch.width + 1 };
}
