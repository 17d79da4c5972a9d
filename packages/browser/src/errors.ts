/** What can go wrong in words, with a code for programs. */

export type ModelErrorCode =
  /** The file could not be fetched or read. */
  | 'NOT_FOUND'
  /** It is no ONNX file, or a damaged one. */
  | 'BAD_FILE'
  /** An ONNX file that is not a model of Patch Diffusion, or the decoder in place of the model. */
  | 'FOREIGN_MODEL'
  /** A newer program wrote the file. */
  | 'NEWER_FORMAT'
  /** The model was trained on latents and needs its decoder. */
  | 'NO_DECODER'
  /** `backend: 'webgpu'` where there is no WebGPU. */
  | 'NO_WEBGPU'
  /** onnxruntime-web could not be loaded. */
  | 'NO_RUNTIME'
  | 'OUT_OF_MEMORY'
  /** An option that cannot be meant. */
  | 'BAD_OPTION'
  /** The model was disposed. */
  | 'DISPOSED'
  /** The network could not be run for another reason. */
  | 'FAILED';

/** Something that went wrong while a model was loaded or sampled. `message` says what to do. */
export class ModelError extends Error {
  override readonly name = 'ModelError';

  constructor(
    readonly code: ModelErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What engines say where memory is short, or an array would be longer than any, in the words of several. */
const MEMORY =
  /bad_alloc|out of memory|allocation failed|memory access out of bounds|array buffer alloc|invalid (typed )?array length|invalid length/i;

const reasonOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

/** An error of the runtime as one of ours. `doing` continues "could not …". */
export function runtimeError(error: unknown, doing: string): ModelError {
  if (error instanceof ModelError) return error;
  return (
    memoryError(error, doing) ??
    new ModelError('FAILED', `could not ${doing}: ${reasonOf(error)}`, { cause: error })
  );
}

/** An error that says that memory is short as one of ours; null for any other. */
export function memoryError(error: unknown, doing: string): ModelError | null {
  if (error instanceof ModelError || !MEMORY.test(reasonOf(error))) return null;
  return new ModelError(
    'OUT_OF_MEMORY',
    `not enough memory to ${doing}; sample fewer pictures at a time (batch: 1), a smaller window or a smaller model, and load the model anew`,
    { cause: error },
  );
}
