/** The bytes of a model, wherever it comes from. */
import { absolute } from './address.js';
import type { NamedFile } from './engine.js';
import { ModelError } from './errors.js';
import type { LoadOptions, ModelSource } from './options.js';

/** @throws ModelError where there is nothing to read, or the signal's reason */
export async function fetchModel(
  source: ModelSource,
  { onProgress, signal }: Pick<LoadOptions, 'onProgress' | 'signal'>,
): Promise<NamedFile> {
  signal?.throwIfAborted();
  if (source instanceof Uint8Array) return { name: 'the model', bytes: source };
  if (source instanceof ArrayBuffer) return { name: 'the model', bytes: new Uint8Array(source) };
  if (source instanceof Blob) return { name: nameOf(source), bytes: await readBlob(source) };
  const url = absolute(source);
  return { name: url.pathname.split('/').at(-1) || url.href, bytes: await download(url) };

  async function download(url: URL): Promise<Uint8Array> {
    const response = await fetch(url, signal ? { signal } : {}).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new ModelError('NOT_FOUND', `${url} could not be fetched; check the address and the connection`, {
        cause,
      });
    });
    if (!response.ok || !response.body) {
      const hint = response.status === 404 ? 'check the address' : 'try again later';
      throw new ModelError('NOT_FOUND', `${url}: the server answered ${response.status}; ${hint}`);
    }
    // The length of a compressed answer is not that of the file.
    const length = response.headers.has('content-encoding') ? null : response.headers.get('content-length');
    return collect(response.body, length === null ? null : Number(length));
  }

  async function collect(stream: ReadableStream<Uint8Array>, total: number | null): Promise<Uint8Array> {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let loaded = 0;
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value as Uint8Array<ArrayBuffer>);
      loaded += value.length;
      onProgress?.(loaded, total);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }
}

const nameOf = (blob: Blob): string => (blob instanceof File ? blob.name : 'the model');

async function readBlob(blob: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (cause) {
    throw new ModelError('NOT_FOUND', `${nameOf(blob)} could not be read; choose it again`, { cause });
  }
}
