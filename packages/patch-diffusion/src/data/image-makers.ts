/**
 * Making many images of a source: in threads of their own where it pays, so that they use all cores and the thread that
 * asked for them stays free. The images are the same either way.
 */
import { existsSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { DECODE_CONCURRENCY } from './concurrency.js';
import { UnusableImage } from './decode.js';
import type { ImagePlace, ImageSource } from './image-source.js';
import type { Batch, WorkerSetup } from './image-worker.js';
import { type ImageSpec, type MadeImage, makeImage } from './make-image.js';

/** Compiled; tests that run the sources find none there, and work in their own thread. */
const WORKER = new URL('./image-worker.js', import.meta.url);

const BATCH = 8;
const MAX_WORKERS = 8;
/** Batches for each thread that are under way, so that none waits while the asking thread writes … */
const MAX_AHEAD = 16;
/** … as long as what they hold stays below this. */
const AHEAD_BYTES = 2 ** 26;
/** A thread needs some time to start. */
const MIN_IMAGES = 128;
/** What a thread may take: one photo of the largest size that is read, decoded, and the thread itself. */
const WORKER_BYTES = 500e6;

/** Makes images, a batch at a time. */
interface Maker {
  /** Images of a batch, and batches that are best under way at once. */
  readonly batch: number;
  readonly ahead: number;
  /** An image, or why there is none, for each entry. Never rejects. */
  make(entries: readonly number[]): Promise<(MadeImage | Error)[]>;
  close(): Promise<void>;
}

/**
 * Makes images of a source in the order of `entries`, some ahead of what is asked for.
 * @returns for each entry its image, or the error (an {@link UnusableImage}, or another, which is no property of the image)
 */
export async function* makeImages(
  source: ImageSource,
  spec: ImageSpec,
  entries: readonly number[],
): AsyncGenerator<MadeImage | Error> {
  const maker = makerFor(source, spec, entries.length);
  try {
    const ahead: Promise<(MadeImage | Error)[]>[] = [];
    for (let next = 0; ; ) {
      for (; ahead.length < maker.ahead && next < entries.length; next += maker.batch)
        ahead.push(maker.make(entries.slice(next, next + maker.batch)));
      const batch = ahead.shift();
      if (batch === undefined) return;
      yield* await batch;
    }
  } finally {
    await maker.close();
  }
}

function makerFor(source: ImageSource, spec: ImageSpec, count: number): Maker {
  const place = source.place?.bind(source);
  const { kind, path } = source;
  if (kind === 'idx' || place === undefined || count < MIN_IMAGES || !existsSync(fileURLToPath(WORKER)))
    return hereMaker(source, spec);
  const threads = Math.min(availableParallelism(), MAX_WORKERS, Math.floor(freemem() / WORKER_BYTES));
  return new Workers({ kind, path, spec }, place, Math.max(1, threads));
}

/** In this thread. */
function hereMaker(source: ImageSource, spec: ImageSpec): Maker {
  const makeOne = (entry: number) =>
    makeImage((options) => source.decode(entry, options), spec).catch((error: Error) => error);
  return {
    batch: 1,
    ahead: DECODE_CONCURRENCY,
    make: (entries) => Promise.all(entries.map(makeOne)),
    close: async () => {},
  };
}

class Workers implements Maker {
  readonly batch = BATCH;
  readonly ahead: number;
  readonly #threads: readonly Thread[];
  readonly #place: (entry: number) => ImagePlace;
  #next = 0;

  constructor(setup: WorkerSetup, place: (entry: number) => ImagePlace, count: number) {
    this.#place = place;
    this.#threads = Array.from({ length: count }, () => new Thread(setup));
    const { size, channels } = setup.spec;
    const batchBytes = BATCH * size.width * size.height * channels;
    // At least one to work on and one that waits.
    const perThread = Math.max(2, Math.min(MAX_AHEAD, Math.floor(AHEAD_BYTES / (count * batchBytes))));
    this.ahead = perThread * count;
  }

  make(entries: readonly number[]): Promise<(MadeImage | Error)[]> {
    const thread = this.#threads[this.#next++ % this.#threads.length];
    return thread.make(entries.map(this.#place));
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

/** A thread; it answers in the order in which it was asked. */
class Thread {
  readonly #worker: Worker;
  readonly #waiting: { readonly count: number; readonly resolve: (made: (MadeImage | Error)[]) => void }[] =
    [];
  #failure: Error | null = null;

  constructor(setup: WorkerSetup) {
    // Not with Node's options of this process: some, such as --input-type, are not for files.
    this.#worker = new Worker(WORKER, { workerData: setup, execArgv: [] });
    this.#worker.on('message', (batch: Batch) => this.#waiting.shift()?.resolve(unpack(batch)));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => this.#fail(new Error('internal: a thread that makes images has ended')));
  }

  make(places: readonly ImagePlace[]): Promise<(MadeImage | Error)[]> {
    const { length: count } = places;
    return new Promise((resolve) => {
      this.#waiting.push({ count, resolve });
      if (this.#failure) this.#fail(this.#failure);
      else this.#worker.postMessage(places);
    });
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    const failure = this.#failure;
    for (const { count, resolve } of this.#waiting.splice(0))
      resolve(Array.from({ length: count }, () => failure));
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function unpack({ answers, data }: Batch): (MadeImage | Error)[] {
  let at = 0;
  return answers.map((answer) => {
    if ('message' in answer) {
      return answer.isUnusable ? new UnusableImage(answer.message) : new Error(answer.message);
    }
    const { bytes, ...rest } = answer;
    at += bytes;
    return { ...rest, data: data.subarray(at - bytes, at) };
  });
}
