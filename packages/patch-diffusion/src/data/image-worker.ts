/** A thread that makes images (see image-makers.ts): it gets places, a few at a time, and answers with what it has made. */
import { parentPort, workerData } from 'node:worker_threads';
import { forEachConcurrently } from './concurrency.js';
import { UnusableImage } from './decode.js';
import { openPlaces } from './image-places.js';
import type { ImagePlace } from './image-source.js';
import { type ImageSpec, type MadeImage, makeImage } from './make-image.js';

export interface WorkerSetup {
  readonly kind: 'folder' | 'zip';
  readonly path: string;
  readonly spec: ImageSpec;
}

/** An image within {@link Batch.data}, or why there is none. */
type Answer =
  | (Omit<MadeImage, 'data'> & { readonly bytes: number })
  | { readonly message: string; readonly isUnusable: boolean };

export interface Batch {
  readonly answers: readonly Answer[];
  /** All images one after another. */
  readonly data: Uint8Array;
}

/** Enough that one is decoded while another is resized. */
const SIDE_BY_SIDE = 2;

const port = parentPort;
if (port === null) throw new Error('internal: image-worker is not a thread');
const { kind, path, spec } = workerData as WorkerSetup;
const decode = openPlaces(kind, path);

async function makeBatch(places: readonly ImagePlace[]): Promise<Batch> {
  const made: (MadeImage | Error)[] = [];
  await forEachConcurrently(places, SIDE_BY_SIDE, async (place, i) => {
    made[i] = await makeImage((options) => decode(place, options), spec).catch((error: Error) => error);
  });
  const images = made.filter((image): image is MadeImage => !(image instanceof Error));
  const data = new Uint8Array(images.reduce((sum, image) => sum + image.data.length, 0));
  let at = 0;
  const answers = made.map((image): Answer => {
    if (image instanceof Error) {
      return { message: image.message, isUnusable: image instanceof UnusableImage };
    }
    data.set(image.data, at);
    at += image.data.length;
    const { isEnlarged, hasDroppedBand } = image;
    return { isEnlarged, hasDroppedBand, bytes: image.data.length };
  });
  return { answers, data };
}

let queue: Promise<void> = Promise.resolve();
port.on('message', (places: ImagePlace[]) => {
  queue = queue.then(async () => {
    const batch = await makeBatch(places);
    port.postMessage(batch, [batch.data.buffer as ArrayBuffer]);
  });
});
