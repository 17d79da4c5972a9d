/** Reading single images of a source in another thread than the one that has listed them. */
import type { DecodeOptions } from './decode.js';
import type { FilePlace, ImagePlace, ZipPlace } from './image-source.js';
import type { RawImage } from './resize.js';
import { decodeFileNow } from './source-folder.js';
import { openZipPlaces } from './source-zip.js';

/**
 * Opens a source by its path, in a thread that may wait for the disk.
 * @returns reads and decodes the image at a place that `ImageSource.place` gave; throws UnusableImage
 */
export function openPlaces(
  kind: 'folder' | 'zip',
  path: string,
): (place: ImagePlace, options: DecodeOptions) => Promise<RawImage> {
  if (kind === 'folder') return (place, options) => decodeFileNow(place as FilePlace, options);
  const decode = openZipPlaces(path);
  return (place, options) => decode(place as ZipPlace, options);
}
