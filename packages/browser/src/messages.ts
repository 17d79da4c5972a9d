/** What the page and its worker say to each other. */

import type { NamedFile } from './engine.js';
import { ModelError, type ModelErrorCode } from './errors.js';
import type { ModelInfo, SampleProgress, SampleSettings } from './options.js';
import type { PictureData } from './picture.js';
import type { RuntimeOptions } from './runtime.js';

/** To the worker. A request is answered by one `done` or `failed` of its id. */
export type Request = { readonly id: number } & (
  | {
      readonly type: 'load';
      readonly file: NamedFile;
      readonly decoder: NamedFile | null;
      readonly options: RuntimeOptions;
    }
  | { readonly type: 'sample'; readonly settings: SampleSettings }
  /** Ends the sampling with this id. */
  | { readonly type: 'cancel' }
  | { readonly type: 'dispose' }
);

/** From the worker. */
export type Reply = { readonly id: number } & (
  | { readonly type: 'step'; readonly progress: SampleProgress }
  | { readonly type: 'picture'; readonly picture: PictureData }
  | { readonly type: 'done'; readonly info?: ModelInfo }
  | { readonly type: 'failed'; readonly error: SentError }
);

/** An error as messages carry it: they keep neither classes nor codes. */
interface SentError {
  readonly code: ModelErrorCode | null;
  readonly message: string;
  readonly stack?: string;
}

export function packError(error: unknown): SentError {
  if (!(error instanceof Error)) return { code: null, message: String(error) };
  const code = error instanceof ModelError ? error.code : null;
  const { message, stack } = error;
  return stack === undefined ? { code, message } : { code, message, stack };
}

export function unpackError({ code, message, stack }: SentError): Error {
  const error = new ModelError(code ?? 'FAILED', message);
  if (code === null && stack !== undefined) error.stack = stack;
  return error;
}
